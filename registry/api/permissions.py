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
    action changes the row it names; any other POST makes a row. A view has two ways to say else:

    - `act_permissions`: the permission that an act needs in place of these, by the name of the
      viewset's action, or by the method of a plain view;
    - `needed_permissions(request)`, where the row or the body decides: all that the call needs, or
      None to leave it to these rules.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """True when the caller holds the permission that the method needs on the view's model."""
        if not request.user or not request.user.is_authenticated:
            return False
        return all(request.user.has_perm(name) for name in self._needed(request, view))

    def _needed(self, request: Request, view: Any) -> set[str]:
        method = str(request.method)
        if method not in _VERBS:
            raise MethodNotAllowed(method)
        asked = getattr(view, "needed_permissions", None)
        if asked and (names := asked(request)) is not None:
            return set(names)
        acts = getattr(view, "act_permissions", {})
        # The map and not `view.action`, which says `metadata` while OPTIONS asks about POST.
        action = getattr(view, "action_map", {}).get(method.lower(), method)
        if action in acts:
            return {acts[action]}
        options = self._queryset(view).model._meta
        verb = self._needed_verb(method, view)
        return {f"{options.app_label}.{verb}_{options.model_name}"}

    def _needed_verb(self, method: str, view: Any) -> str:
        made = (None, "create")
        if method == "POST" and getattr(view, "action_map", {}).get("post") not in made:
            return "change"
        return _VERBS[method]


class ChangePermissions(ModelPermissions):
    """For plain views whose POST changes a row that exists."""

    def _needed_verb(self, method: str, view: Any) -> str:
        return "change" if method == "POST" else super()._needed_verb(method, view)
