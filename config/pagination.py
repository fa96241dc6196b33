"""Keyset pagination: pages stay stable while rows arrive, and the last page costs as the first."""

from rest_framework.pagination import CursorPagination


class KeysetPagination(CursorPagination):
    """Newest first by primary key; `page_size` up to 500."""

    ordering = "-pk"
    page_size_query_param = "page_size"
    max_page_size = 500
