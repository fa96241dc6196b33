"""Django's PostgreSQL backend with a deadline on each call and a breaker.

A statement that takes longer than it may loses its connection, which ends the wait with an
`OperationalError`, even where the server hangs and acknowledges what it is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db.backends.postgresql import base
from django.db.utils import OperationalError

from config.stores.deadlines import statement_seconds, watchman
from registry.breaker import Breaker


class DatabaseSilentError(OperationalError):
    """The database did not answer in time, or could not be reached."""


#: One statement that takes too long is its own fault; three in a row and none that ended are not.
breaker = Breaker(
    "PostgreSQL", trips_on=(DatabaseSilentError,), refuses_with=DatabaseSilentError, failures=3
)


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection whose calls end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute_wrappers.append(self._execute_in_time)

    def get_new_connection(self, conn_params: Any) -> Any:
        with breaker.call():
            try:
                return super().get_new_connection(conn_params)
            except self.Database.OperationalError as error:
                raise DatabaseSilentError(str(error)) from error

    def is_usable(self) -> bool:
        try:
            usable: bool = self._in_time(super().is_usable)
        except OperationalError:
            return False
        return usable

    def create_cursor(self, name: str | None = None) -> Any:
        cursor = super().create_cursor(name)
        if name:
            # A cursor on the server is asked for each piece of its rows.
            fetch = cursor.fetchmany
            cursor.fetchmany = lambda size=0: self._in_time(lambda: fetch(size))
        return cursor

    def _commit(self) -> None:
        self._in_time(super()._commit)  # type: ignore[misc]

    def _rollback(self) -> None:
        self._in_time(super()._rollback)  # type: ignore[misc]

    def _execute_in_time(
        self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
    ) -> Any:
        return self._in_time(lambda: execute(sql, params, many, context))

    def _in_time(self, call: Callable[[], Any]) -> Any:
        seconds = statement_seconds.get() or settings.AVIARY_DATABASE_SECONDS
        cut = _Cut(self.connection)
        with breaker.call():
            try:
                with watchman.watch(seconds, cut.end):
                    return call()
            except Exception as error:
                if not cut.is_made:
                    raise
                raise DatabaseSilentError(
                    f"The database did not answer within {seconds:g} s."
                ) from error


class _Cut:
    """Ends the wait on a connection by ending the connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.is_made = False

    def end(self) -> None:
        self.is_made = True
        if self._connection is None or self._connection.closed:
            return
        # A copy of the descriptor: closing the original under the library could hit another file.
        with socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
