"""What can be known again when `state.json` is lost, with no I/O: mostly from signed documents.

The counter, which bars replays, and the trusted time come from the last assignment acted on; it is
kept beside the state with its signature, so that losing the state does not lower them. Which
release was proven is not known again: each candidate has to pass its self-test before it runs.
What was blocked and what was pinned comes from a copy beside the state, where that is whole. The
watch on a young release begins anew with its self-test.
"""

from collections.abc import Iterable, Mapping

from edge_agent.releases.state import AgentState, Decisions, ModelState
from edge_agent.releases.trust import Assignment, Manifest


def rebuild_state(
    *,
    assignments: Iterable[Assignment],
    manifests: Iterable[Manifest],
    decisions: Mapping[str, Decisions],
) -> AgentState:
    """The state that verified documents found on the disk allow.

    Args:
        assignments: the last acted on, one per model.
        manifests: of releases whose files are all whole. Those of models without an assignment
            are left out: nobody is known to have asked for them.
        decisions: the copy of what was blocked and pinned, by model.
    """
    state = AgentState()
    releases = list(manifests)
    for assignment in assignments:
        decided = decisions.get(assignment.model, Decisions({}, ""))
        candidates = sorted(
            (
                release
                for release in releases
                if release.model == assignment.model and release.digest not in decided.blocked
            ),
            key=lambda release, decided=decided: (  # type: ignore[misc]
                release.digest != decided.pinned,
                release.digest != assignment.manifest_sha256,
                -release.sequence,
                release.digest,
            ),
        )
        state.models[assignment.model] = ModelState(
            counter=assignment.counter,
            manifest_sha256=assignment.manifest_sha256,
            action=assignment.action,
            blocked=dict(decided.blocked),
            is_pinned=bool(decided.pinned),
            candidates=[release.digest for release in candidates if assignment.action == "install"],
        )
        state.trusted_time = max(state.trusted_time, assignment.issued_at.isoformat())
    return state
