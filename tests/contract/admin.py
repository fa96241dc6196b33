"""The admin's pages, read as a person's browser would: with a login and a session."""

import re
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar

from demo.stack import ADMIN
from servers.patience import QUIET_SECONDS
from tests.live import LiveServer


class AdminReader:
    """Logged in as the administrator of a live server."""

    def __init__(self, live: LiveServer) -> None:
        self._url = live.stack.url
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        self._opener = urllib.request.build_opener(cookies)
        path = "/accounts/login/"
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.read(path))
        assert found is not None
        form = {"login": ADMIN, "password": live.stack.password,
                "csrfmiddlewaretoken": found[1], "next": "/admin/"}  # fmt: skip
        request = urllib.request.Request(
            self._url + path, urllib.parse.urlencode(form).encode(), {"Referer": self._url + path}
        )
        with self._opener.open(request, timeout=QUIET_SECONDS) as answer:
            assert not answer.url.endswith(path), "the login was refused"

    def read(self, path: str) -> str:
        """The page at `path`, its white space made plain."""
        with self._opener.open(self._url + path, timeout=QUIET_SECONDS) as answer:
            text: str = answer.read().decode()
        return re.sub(r"\s+", " ", text)
