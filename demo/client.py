"""A person's view of the server: its public REST API and nothing else."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from servers.patience import QUIET_SECONDS


class ApiError(Exception):
    """The server answered with an error; `status` and `code` are its own."""

    def __init__(self, method: str, path: str, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.code = str(body.get("code", ""))
        super().__init__(f"{method} {path} answered {status}: {json.dumps(body)[:600]}")


class Api:
    """Calls below `/api/v1/` with a personal token."""

    def __init__(self, base_url: str, token: str) -> None:
        self.base_url = base_url.rstrip("/")
        self._pool = urllib3.PoolManager(
            headers={"Authorization": f"Token {token}"},
            timeout=urllib3.Timeout(QUIET_SECONDS),
            retries=urllib3.Retry(connect=3, read=0, redirect=0, backoff_factor=0.2),
        )

    def get(self, path: str, **query: Any) -> Any:
        return self._call("GET", path + (f"?{urlencode(query)}" if query else ""))

    def list(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All rows of a list, page after page."""
        answer = self.get(path, **query)
        if isinstance(answer, list):
            return answer
        rows = list(answer["results"])
        while answer.get("next"):
            answer = self._call("GET", str(answer["next"]))
            rows.extend(answer["results"])
        return rows

    def find(self, path: str) -> dict[str, Any] | None:
        """The row at `path`, or None when there is none."""
        try:
            return dict(self.get(path))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._call("POST", path, body=body or {})

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("PATCH", path, body=body)

    def upload(self, path: str, file: Path, fields: dict[str, str]) -> Any:
        parts: dict[str, Any] = {**fields, "file": (file.name, file.read_bytes())}
        return self._call("POST", path, fields=parts)

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        fields: dict[str, Any] | None = None,
    ) -> Any:
        url = path if path.startswith("http") else f"{self.base_url}/api/v1/{path}"
        if body is not None:
            answer = self._pool.request(method, url, json=body)
        else:
            answer = self._pool.request(method, url, fields=fields)
        try:
            content = json.loads(answer.data) if answer.data else {}
        except ValueError:
            content = {"code": "not_json", "message": answer.data[:200].decode(errors="replace")}
        if answer.status >= 400:
            raise ApiError(method, path, answer.status, content)
        return content
