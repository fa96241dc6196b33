"""The outcomes, seen from the outside: the public API and what each agent says of itself."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import urllib3

from demo import causes
from demo.agents import CANARY_SITE, DISTURBED_SITE
from demo.plans import BAD, BETTER, FIRST, MODEL
from demo.stack import Stack
from demo.story import MODEL_PATH, Story


@dataclass(frozen=True)
class Outcome:
    """One line of the table; `expected` is also what is compared."""

    what: str
    expected: Any
    seen: Any

    @property
    def holds(self) -> bool:
        return bool(self.expected == self.seen)


def verify(story: Story, stack: Stack) -> int:
    """Print expected beside seen for every outcome; 0 when all hold, else 1."""
    sections: list[Callable[[Story], list[Outcome]]] = [
        _registry, _compression, _rollouts, _drift, _devices,
    ]  # fmt: skip
    outcomes = [outcome for section in sections for outcome in section(story)]
    outcomes.append(Outcome("server processes that ended early", [], stack.dead_processes()))
    outcomes += _pages(stack)
    width = max(len(outcome.what) for outcome in outcomes)
    print(f"\n      {'outcome'.ljust(width)}  {'expected'.ljust(22)}  seen")
    for outcome in outcomes:
        mark = "ok  " if outcome.holds else "DIFF"
        expected = str(outcome.expected).ljust(22)
        print(f"{mark}  {outcome.what.ljust(width)}  {expected}  {outcome.seen}")
    differing = sum(not outcome.holds for outcome in outcomes)
    print(f"\n{len(outcomes) - differing} of {len(outcomes)} outcomes as expected")
    return 1 if differing else 0


def _registry(story: Story) -> list[Outcome]:
    outcomes = []
    accuracy = {}
    for version in (FIRST, BETTER, BAD):
        row = story.api.get(f"{MODEL_PATH}versions/{version}/")
        signed = all(item["manifest_sha256"] and item["envelope"] for item in row["variants"])
        outcomes.append(Outcome(f"{version} state", "approved", row["state"]))
        outcomes.append(Outcome(f"{version} every variant signed", True, signed))
        accuracy[version] = _accuracy_of(row)
    return [*outcomes, Outcome("1.1.0 more accurate than 1.0.0", True, _more(accuracy))]


def _accuracy_of(row: dict[str, Any]) -> float | None:
    fp32 = next(item for item in row["variants"] if item["name"] == "fp32")
    value = (fp32["metrics"] or {}).get("accuracy", row["metrics"].get("accuracy"))
    return None if value is None else float(value)


def _more(accuracy: dict[str, float | None]) -> bool:
    first, better = accuracy[FIRST], accuracy[BETTER]
    return first is not None and better is not None and better > first


def _compression(story: Story) -> list[Outcome]:
    row = story.api.get(f"{MODEL_PATH}versions/{FIRST}/")
    sizes = {item["name"]: item["files"][0]["size_bytes"] for item in row["variants"]}
    small = sizes.get("int8-static")
    report = story.facts["job"]["report"]
    drop = report.get("accuracy_drop_points")
    return [
        Outcome("compression job", "passed", story.facts["job"]["state"]),
        Outcome("INT8 below half of FP32", True, bool(small and small < sizes["fp32"] / 2)),
        Outcome("INT8 loses at most 2 points", True, drop is not None and drop <= 2.0),
        Outcome("INT8 latency measured", True, bool(report["variant"].get("latency"))),
    ]


def _rollouts(story: Story) -> list[Outcome]:
    rows = {row["target_version"]: row for row in story.api.list("rollouts/")}
    good = story.api.get(f"rollouts/{rows[BETTER]['id']}/")
    bad = story.api.get(f"rollouts/{rows[BAD]['id']}/")
    deployment = next(iter(story.api.list("deployments/")))
    aborts = [event for event in bad["events"] if event["action"] == "abort"]
    reached = story.api.list("installations/", rollout=bad["id"])
    sites = {story_site(story, row) for row in reached if _is_of(row, BAD)}
    tried = story.api.list("installations/", rollout=good["id"])
    return [
        Outcome("rollout of 1.1.0", "completed", good["state"]),
        Outcome("rollout of 1.1.0 last stage", 3, good["current_stage"] + 1),
        Outcome("steps of 1.1.0 without evidence", [], causes.find_weak_steps(good)),
        Outcome("devices that undid 1.1.0", [], causes.list_undone(tried, BETTER)),
        Outcome("rollout of 1.2.0 was undone", True, bad["state"] in ("aborted", "rolled_back")),
        Outcome("rollout of 1.2.0 stage reached", 1, bad["current_stage"] + 1),
        Outcome("what stopped 1.2.0", [causes.PREDICTIONS], causes.find_stop_causes(bad)),
        Outcome("who aborted 1.2.0", ["system"], [event["actor"] for event in aborts]),
        Outcome("devices that undid 1.2.0", [], causes.list_undone(reached, BAD)),
        Outcome("1.2.0 reached only the canaries", {CANARY_SITE}, sites),
        Outcome("stable version", BETTER, deployment["stable_version"]),
    ]


def story_site(story: Story, installation: dict[str, Any]) -> str:
    """The site of the device of an installation."""
    sites = {agent.spec.device_id: agent.spec.site for agent in story.agents}
    return sites[installation["device"]]


def _is_of(installation: dict[str, Any], version: str) -> bool:
    return bool(installation["version"] == version)


def _drift(story: Story) -> list[Outcome]:
    incidents = [
        row
        for row in story.api.list("incidents/", model=MODEL)
        if row["metric"] == "prediction_psi" and row["slice"] == f"site={DISTURBED_SITE}"
    ]
    newest = incidents[0] if incidents else {}
    above = bool(newest) and newest["value"] > newest["threshold"]
    # One cause, one incident; those of 1.2.0 ended when no device ran it any more.
    still_open = [row["slice"] for row in story.api.list("incidents/", model=MODEL, open="true")]
    return [
        Outcome(f"incident of {DISTURBED_SITE}", "firing", newest.get("status")),
        Outcome("its PSI is above the limit", True, above),
        Outcome("incidents still open", [f"site={DISTURBED_SITE}"], still_open),
    ]


def _devices(story: Story) -> list[Outcome]:
    with ThreadPoolExecutor(2) as pool:
        statuses = list(pool.map(lambda agent: agent.status(), story.agents))
    rows = {row["device_id"]: row for row in story.api.list("devices/")}
    version = story.api.get(f"{MODEL_PATH}versions/{BETTER}/")
    digests = {item["manifest_sha256"] for item in version["variants"]}
    running = [status["models"].get(MODEL, {}) for status in statuses]
    versions = [model.get("version") for model in running]
    reported = [rows[agent.spec.device_id]["running"].get(MODEL) for agent in story.agents]
    count = len(story.agents)
    return [
        Outcome("agents still running", count, sum(agent.is_running for agent in story.agents)),
        Outcome("devices accepted", count, sum(r["status"] == "accepted" for r in rows.values())),
        Outcome("devices say they run 1.1.0", count, versions.count(BETTER)),
        Outcome(
            "devices run a digest of 1.1.0",
            count,
            sum(m.get("manifest_sha256") in digests for m in running),
        ),
        Outcome("the server knows it", count, sum(digest in digests for digest in reported)),
    ]


def _pages(stack: Stack) -> list[Outcome]:
    outcomes = []
    for path, expected in (("/healthz", 200), ("/readyz", 200), ("/accounts/login/", 200)):
        answer = urllib3.request("GET", stack.url + path, redirect=False)
        outcomes.append(Outcome(f"GET {path}", expected, answer.status))
    anonymous = urllib3.request("GET", f"{stack.url}/api/v1/devices/", redirect=False)
    outcomes.append(Outcome("API without a token", 401, anonymous.status))
    return outcomes
