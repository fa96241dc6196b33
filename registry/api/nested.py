"""Lists below something that has to be there."""

from typing import Any

from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response


class NestedListAPIView(generics.ListAPIView[Any]):
    """A list whose owner is named in the address: an unknown owner is 404, not an empty list.

    The owner is looked up only for an empty answer, so that a full one costs no query more.
    """

    def find_owner(self) -> object:
        """The owner.

        Raises:
            NotFoundError: there is none.
        """
        raise NotImplementedError

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().list(request, *args, **kwargs)
        rows = response.data["results"] if isinstance(response.data, dict) else response.data
        if not rows:
            self.find_owner()
        return response
