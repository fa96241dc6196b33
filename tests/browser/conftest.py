"""A real browser, logged in, before a live server that has something to show."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from demo.stack import ADMIN
from servers.patience import QUIET_SECONDS
from tests.live import LiveServer, running_server

SCREENSHOTS = os.environ.get("AVIARY_SCREENSHOTS")


def find_browser() -> str:
    """The path of a Chromium; without one CI fails and other places skip."""
    named = os.environ.get("CHROMIUM_PATH", "")
    for name in (named, "chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name) if name else None
        if path:
            return path
    how = "no Chromium: `apt-get install chromium`, or set CHROMIUM_PATH"
    if os.environ.get("CI"):
        pytest.fail(how)
    pytest.skip(f"BROWSER TESTS NOT RUN: {how}")


def scope_of_server(fixture_name: str, config: pytest.Config) -> str:
    """The story is played once for all pictures; else each file has a server of its own.

    Two workers may run the files at once, and one server's database must not be another's.
    """
    return "session" if SCREENSHOTS else "module"


@pytest.fixture(scope=scope_of_server)
def live(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """With pictures to be taken the whole story is played; else one version is enough."""
    find_browser()
    kind = "browser" if SCREENSHOTS else request.module.__name__.rpartition("test_")[2]
    with running_server(tmp_path_factory.mktemp("browser"), kind) as server:
        if SCREENSHOTS:
            server.story.play()
        else:
            server.story.publish_first_version()
        yield server


# Not for the session: while Playwright's event loop lives, Django refuses the database to every
# later test of the same process.
@pytest.fixture(scope="module")
def page(live: LiveServer) -> Iterator[Page]:
    """One page, logged in as the administrator; its `errors` are gathered by the tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), headless=True)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(1000 * QUIET_SECONDS)
        page.goto(f"{live.stack.url}/admin/login/")
        page.fill("input[name=login]", ADMIN)
        page.fill("input[name=password]", live.stack.password)
        page.press("input[name=password]", "Enter")
        page.wait_for_url(f"{live.stack.url}/admin/")
        yield page
        browser.close()


@pytest.fixture
def take_picture(page: Page) -> Iterator[object]:
    """A function that saves the page as it is now, where pictures were asked for."""

    def take(name: str) -> None:
        if SCREENSHOTS:
            directory = Path(SCREENSHOTS)
            directory.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=str(directory / f"{name}.png"), full_page=False)

    yield take
