"""The rollout's state machine as a table; pure."""

from __future__ import annotations

#: Action to the states it may be taken in.
ALLOWED: dict[str, frozenset[str]] = {
    "start": frozenset({"draft", "scheduled"}),
    "approve": frozenset({"awaiting_approval"}),
    "advance": frozenset({"running"}),
    "pause": frozenset({"running", "paused"}),
    "resume": frozenset({"paused"}),
    "abort": frozenset(
        {"draft", "awaiting_approval", "scheduled", "running", "paused", "aborting"}
    ),
    "note": frozenset(
        {
            "draft",
            "awaiting_approval",
            "scheduled",
            "running",
            "paused",
            "aborting",
            "completed",
            "aborted",
            "rolled_back",
            "superseded",
        }
    ),
    "finish_abort": frozenset({"aborting"}),
    "supersede": frozenset({"draft", "awaiting_approval", "scheduled"}),
}

TERMINAL = frozenset({"completed", "aborted", "rolled_back", "superseded"})


def is_allowed(action: str, state: str) -> bool:
    """True when the action may be taken in the state."""
    return state in ALLOWED.get(action, frozenset())


#: Installation states by how much they say; a report never lowers it.
RANKS: dict[str, int] = {
    "offered": 0,
    "downloading": 1,
    "verified": 2,
    "trial": 3,
    "timed_out": 4,
    "incompatible": 4,
    "cancelled": 5,
    "failed": 5,
    "committed": 6,
    "rolled_back": 7,
    "regressed": 7,
}

#: What a device may report of itself.
REPORTABLE = frozenset(
    {
        "offered",
        "downloading",
        "verified",
        "trial",
        "committed",
        "failed",
        "rolled_back",
        "cancelled",
    }
)


#: What a device answers, as a failure, when it lacks what a release needs.
UNMET_REQUIREMENT = "requirement_unmet"


def state_of_report(reported: str, code: str) -> str:
    """What a report makes of an installation.

    A device that lacks what a release needs says so before it downloads anything. That tells of the
    device and nothing of the release, so it counts against no rollout.
    """
    if reported == "failed" and code == UNMET_REQUIREMENT:
        return "incompatible"
    return reported


def next_installation_state(current: str, reported: str) -> str:
    """The state after a report: the higher rank wins, so a late `committed` is the truth."""
    return reported if RANKS[reported] > RANKS[current] else current
