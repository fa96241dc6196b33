"""Every page of the sidebar opens in a real browser, without an error or a request elsewhere."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.urls import Resolver404, resolve, reverse
from playwright.sync_api import ConsoleMessage, Page, Request, expect

from demo.plans import MODEL
from tests.live import LiveServer


def sidebar_pages() -> list[tuple[str, str]]:
    """Title and path of each entry of the sidebar."""
    items = [item for group in settings.UNFOLD["SIDEBAR"]["navigation"] for item in group["items"]]
    return [(str(item["title"]), str(item["link"](None))) for item in items]


def test_every_page_of_the_sidebar_opens_without_an_error(
    page: Page, live: LiveServer, take_picture: Callable[[str], None]
) -> None:
    problems: list[str] = []
    elsewhere: list[str] = []

    def note_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(f"{page.url}: {message.text}")

    def note_request(request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme.startswith("http") and address.hostname != "127.0.0.1":
            elsewhere.append(request.url)

    page.on("console", note_console)
    page.on("request", note_request)
    page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
    for title, path in sidebar_pages():
        answer = page.goto(live.stack.url + path)
        assert answer is not None and answer.status == 200, f"{title} answered {answer}"
        page.wait_for_load_state("networkidle")
        take_picture(title.lower().replace(" ", "-"))
    assert problems == []
    assert elsewhere == []


def test_each_kind_of_page_keeps_to_the_content_security_policy(
    page: Page, live: LiveServer
) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation', (event) => "
        "console.error('CSP', event.violatedDirective, event.blockedURI, event.sample));"
    )

    def note_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(f"{page.url}: {message.text}")

    page.on("console", note_console)
    waiting = [path for _, path in sidebar_pages()]
    waiting += ["/accounts/2fa/", "/accounts/reauthenticate/"]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop(0)
        name = kind_of(path)
        if name in seen or name.endswith("logout") or path.endswith(".csv"):
            continue
        seen.add(name)
        page.goto(live.stack.url + path)
        links = page.eval_on_selector_all(
            "a[href^='/']", "links => links.map(a => a.getAttribute('href').split('#')[0])"
        )
        waiting += [link for link in links if str(link).startswith(("/admin/", "/accounts/"))]
    assert not problems, "\n".join(problems)
    assert len(seen) > 40, sorted(seen)


def kind_of(path: str) -> str:
    """The name of the address, which pages of one kind share."""
    try:
        return str(resolve(urlsplit(path).path).view_name)
    except Resolver404:
        return path


def test_the_pages_own_scripts_do_what_their_marks_say(page: Page, live: LiveServer) -> None:
    page.goto(f"{live.stack.url}/admin/registry/version/")
    page.click("text=1.0.0 >> nth=0")
    copier = page.locator("[data-copy]").first
    copier.click()
    assert copier.text_content() == "copied"
    page.goto(f"{live.stack.url}/admin/registry/model/add/")
    form = "document.querySelector('form[data-busy]')"
    page.evaluate(f"{form}.addEventListener('submit', (event) => event.preventDefault())")
    page.click("form[data-busy] button[type=submit]")
    assert page.text_content("form[data-busy] button[type=submit]") == "Working…"


def test_what_a_plan_can_notice_follows_what_is_typed(page: Page, live: LiveServer) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    live.api.post(
        "deployments/",
        {"name": "typed", "model": MODEL, "selector": {"site": ["nowhere"]}},
    )
    page.goto(live.stack.url + reverse("admin:fleet_rollout_add"))
    told = page.locator("#rollout-power")
    expect(told).to_contain_text("Choose a deployment")
    page.select_option("select[name=deployment]", label="typed")
    expect(told).to_contain_text("The deployment has 0 accepted devices.")
    page.fill("input[name=stages-0-percent]", "40")
    expect(told).to_contain_text("Stage 1: about 40 %")
    page.fill("input[name=stages-0-percent]", "")
    expect(told).not_to_contain_text("Stage 1")
    assert problems == []


def test_a_wrong_password_does_not_open_the_admin(page: Page, live: LiveServer) -> None:
    stranger = page.context.browser.new_context()  # type: ignore[union-attr]
    other = stranger.new_page()
    other.goto(f"{live.stack.url}/admin/login/")
    other.fill("input[name=login]", "admin")
    other.fill("input[name=password]", "wrong")
    other.click("button[type=submit]")
    assert "/accounts/login/" in other.url
    stranger.close()


def test_pictures_of_the_newest_rollout_and_its_drift(
    page: Page, live: LiveServer, take_picture: Callable[[str], None]
) -> None:
    rows = live.api.list("rollouts/")
    for row in rows:
        answer = page.goto(live.stack.url + reverse("admin:fleet_rollout_page", args=[row["id"]]))
        assert answer is not None and answer.status == 200
        page.wait_for_load_state("networkidle")
        take_picture(f"rollout-{row['target_version']}")


#: Made by others: Swagger's page, and the two lists that Django makes of a choice of many.
NOT_OURS = {"/api/docs/"}
NOT_OUR_PARTS = [".help-tooltip", ".selector"]
SMALL = {"width": 390, "height": 844}


@pytest.fixture
def sized(page: Page) -> Iterator[Page]:
    before = page.viewport_size
    yield page
    assert before is not None
    page.set_viewport_size(before)


def pages_of_each_kind(page: Page, live: LiveServer) -> list[str]:
    """The sidebar's pages, and from each list its form and its first row."""
    found = []
    for _, path in sidebar_pages():
        found.append(path)
        page.goto(live.stack.url + path)
        for link in ("#result_list tbody th a, #result_list tbody td a", "a[href$='/add/']"):
            first = page.locator(link).first
            if first.count():
                found.append(str(first.get_attribute("href")))
    return [path for path in dict.fromkeys(found) if path.startswith("/")]


def test_pages_can_be_used_by_all_and_on_small_screens(sized: Page, live: LiveServer) -> None:
    """axe-core finds nothing serious in either theme, and nothing scrolls sideways."""
    axe, problems = Axe(), []
    for path in pages_of_each_kind(sized, live):
        sized.goto(live.stack.url + path)
        for theme in ("light", "dark"):
            if path in NOT_OURS:
                continue
            sized.evaluate(
                "dark => document.documentElement.classList.toggle('dark', dark)", theme == "dark"
            )
            options: dict[str, Any] = {"resultTypes": ["violations"]}
            if theme == "dark":
                options["runOnly"] = ["color-contrast"]
            context = {"exclude": [[part] for part in NOT_OUR_PARTS]}
            found = axe.run(sized, context=context, options=options)
            problems += [
                f"{path} {theme}: {row['id']} {node['html'][:160]}"
                for row in found.response["violations"]
                if row["impact"] in ("serious", "critical")
                for node in row["nodes"]
            ]
        sized.set_viewport_size(SMALL)
        width = sized.evaluate("document.documentElement.scrollWidth")
        if path not in NOT_OURS and width > SMALL["width"]:
            problems.append(f"{path} is {width} pixels wide on a screen of {SMALL['width']}")
        sized.set_viewport_size({"width": 1440, "height": 1000})
    assert problems == []


def test_the_keyboard_reaches_the_content_at_once(page: Page, live: LiveServer) -> None:
    page.goto(f"{live.stack.url}/admin/")
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    assert skip.inner_text() == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "main"
