"""Who may do what in the management API: Django's model permissions, reading included."""

from typing import Any

from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.request import Request

_VERBS = {
    "GET": "view",
    "HEAD": "view",
    "OPTIONS": "view",
    "POST": "add",
    "PUT": "change",
    "PATCH": "change",
    "DELETE": "delete",
}


class ModelPermissions(DjangoModelPermissions):
    """`view` to read, `add` to make a row, `change` to do something to one; superusers may do all.

    HEAD and OPTIONS tell what GET tells, so they need what GET needs. A POST to a viewset's own
    action changes the row it names; any other POST makes a row. A view where the row decides has a
    method `needed_verb(request)`, which answers None to leave it to these rules.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """True when the caller holds the permission that the method needs on the view's model."""
        if not request.user or not request.user.is_authenticated:
            return False
        verb = self._needed_verb(request, view)
        options = self._queryset(view).model._meta
        return bool(request.user.has_perm(f"{options.app_label}.{verb}_{options.model_name}"))

    def _needed_verb(self, request: Request, view: Any) -> str:
        method = str(request.method)
        if method not in _VERBS:
            raise MethodNotAllowed(method)
        asked = getattr(view, "needed_verb", None)
        # The map and not `view.action`, which says `metadata` while OPTIONS asks about POST.
        action = getattr(view, "action_map", {}).get("post")
        if asked and (verb := asked(request)):
            return str(verb)
        return "change" if method == "POST" and action not in (None, "create") else _VERBS[method]


class ChangePermissions(ModelPermissions):
    """For plain views whose POST changes a row that exists."""

    def _needed_verb(self, request: Request, view: Any) -> str:
        verb = super()._needed_verb(request, view)
        return "change" if request.method == "POST" else verb
