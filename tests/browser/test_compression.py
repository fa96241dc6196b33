"""A job from its form to its report in a real browser, as a person would see it."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import ConsoleMessage, Page

from demo.story import FIRST, MODEL_PATH
from servers.patience import wait_for
from tests.live import LiveServer

#: The preset's passes with a third of its steps: seen here are the pages, not what was learnt.
PASSES = [
    {"pass": "distill.student", "steps": 800, "noise": 0.2, "shift": 1},
    {"pass": "quantize.static"},
]
ADD = "/admin/compression/job/add/"


@pytest.fixture
def problems(page: Page) -> Iterator[list[str]]:
    """What the browser complains about while a test runs."""
    found: list[str] = []

    def note_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            found.append(f"{page.url}: {message.text}")

    def note_error(error: Exception) -> None:
        found.append(f"{page.url}: {error}")

    page.on("console", note_console)
    page.on("pageerror", note_error)
    yield found
    page.remove_listener("console", note_console)
    page.remove_listener("pageerror", note_error)


def test_a_job_is_started_watched_and_read_in_the_browser(
    page: Page, live: LiveServer, problems: list[str], take_picture: Callable[[str], None]
) -> None:
    version = live.api.get(f"{MODEL_PATH}versions/{FIRST}/")
    page.goto(live.stack.url + ADD)
    page.select_option("select[name=version]", str(version["id"]))
    page.wait_for_url("**/add/?version=*")
    page.check("input[name=preset][value=distilled-int8]")
    # It trains for a few times the two seconds between two looks of the page on a fast machine.
    page.click("text=Edit the recipe")
    page.fill("textarea[name=recipe]", json.dumps({"passes": PASSES}))
    page.select_option("select[name=calibration_dataset]", str(live.story.datasets["calibration"]))
    page.select_option("select[name=evaluation_dataset]", str(live.story.datasets["held-out"]))
    page.fill("input[name=max_accuracy_drop_points]", "60")
    take_picture("compression-form")
    page.click("text=Start >> visible=true")
    page.wait_for_url("**/job/*/change/")
    page.wait_for_selector("progress")
    page.wait_for_selector("text=/step \\d of 3: .* left/")
    take_picture("compression-running")
    job = re.search(r"/job/([^/]+)/change/", page.url)
    assert job is not None
    path = f"compression/jobs/{job[1]}/"
    ended = wait_for(
        lambda: row if (row := live.api.get(path))["state"] not in ("queued", "running") else None,
        "the job's end",
        progress=lambda: live.api.get(path),
        interval_seconds=0.5,
    )
    assert ended["state"] == "passed", ended
    # The live part reloads the page once the job has ended.
    page.wait_for_selector("text=What it costs and gains")
    assert page.locator("progress").count() == 0
    take_picture("compression-report")
    page.click("text=All variants of this version")
    page.wait_for_selector(".plot[data-drawn] canvas")
    drawn = "canvas => Chart.getChart(canvas).getDatasetMeta(0).data.length"
    assert page.locator(".plot canvas").evaluate(drawn) >= 2
    assert page.locator(".comparison .front").count() >= 1
    for width in (1440, 1024):
        page.set_viewport_size({"width": width, "height": 1000})
        fits = "element => element.scrollWidth <= element.clientWidth"
        assert page.locator(".scroll").evaluate(fits), f"the table scrolls sideways at {width} px"
    page.set_viewport_size({"width": 1440, "height": 1000})
    page.locator(".comparison .more summary").last.press("Enter")
    assert page.locator(".comparison details[open] >> text=Recipe (SHA-256)").is_visible()
    page.locator(".comparison .more summary").last.press("Enter")
    take_picture("compression-variants")
    page.goto(f"{live.stack.url}/admin/registry/version/{version['id']}/change/")
    page.wait_for_selector(".plot[data-drawn] canvas")
    take_picture("version-with-variants")
    page.goto(f"{live.stack.url}/admin/compression/job/")
    page.wait_for_selector("text=0 running, 0 queued")
    take_picture("compression-jobs")
    assert problems == []
