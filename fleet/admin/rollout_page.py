"""What the page of one rollout says, gathered; the same for the whole page and its live part."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db.models import Count
from django.db.models.functions import Coalesce
from django.utils import timezone

from fleet import selectors
from fleet.admin.base import selector_words
from fleet.models import Gate, GateEvaluation, Installation, Rollout, RolloutStage
from fleet.notices import PREVIEW_SECONDS, rollout_notices, stage_previews
from fleet.rules import gate_metrics
from fleet.rules.gate_metrics import INSTALLS
from fleet.rules.plan_power import find_stage_power
from fleet.rules.rollout_policy import Action, decide_rollout
from fleet.selection import deployment_devices, label_text
from fleet.sparklines import sparkline
from registry.units import write_count

TREND_ROWS = 20
TIMELINE_ROWS = 60
FAILURE_ROWS = 20
#: The order in which device states are told.
STATE_ORDER = (
    "committed", "trial", "verified", "downloading", "offered", "failed", "rolled_back",
    "timed_out", "regressed", "incompatible", "cancelled",
)  # fmt: skip


def find_rollout(pk: int) -> Rollout | None:
    """The rollout with all that its page names."""
    return (
        Rollout.objects.select_related(
            "deployment__model",
            "target_version__model",
            "previous_version",
            "created_by",
            "approved_by",
        )
        .prefetch_related("stages", "gates", "variants")
        .filter(pk=pk)
        .first()
    )


def page_context(rollout: Rollout) -> dict[str, Any]:
    """The facts of the rollout's page."""
    now = timezone.now()
    counts = selectors.count_states(rollout)
    previews = stage_previews(rollout)
    stages = list(rollout.stages.all())
    has_begun = rollout.started_at is not None
    reached = previews[rollout.current_stage] if has_begun and previews else None
    return {
        "rollout": rollout,
        "now": now,
        "stage_number": rollout.current_stage + 1,
        "stage_count": len(stages),
        "stages": [
            _stage_row(rollout, stage, preview, counts, now)
            for stage, preview in zip(stages, previews, strict=True)
        ],
        "next_words": next_words(rollout, now),
        "gates": gate_rows(rollout, now),
        "states": state_rows(counts),
        "unreached": _unreached(rollout, reached, counts),
        "incompatible": reached["incompatible"] if reached else None,
        "failures": _failures(rollout),
        "timeline": timeline(rollout),
        "selector": selector_words(rollout.deployment.selector),
        "is_previewed": not has_begun,
        "variants": ", ".join(variant.name for variant in rollout.variants.all()) or "no variant",
        "notices": rollout_notices(rollout),
        "sites": site_rows(rollout) if rollout.state in Rollout.NOT_STARTED_STATES else [],
    }


def site_rows(rollout: Rollout, limit: int = 12) -> list[dict[str, Any]]:
    """How the deployment's devices spread over sites and hardware classes, largest first."""
    key = f"fleet:rollout-sites:{rollout.pk}:{rollout.revision}"
    found = cache.get(key)
    if found is not None:
        return list(found)
    rows = (
        deployment_devices(rollout.deployment)
        .annotate(
            site=label_text("site"),
            hardware=Coalesce(label_text("hardware_class"), label_text("arch")),
        )
        .values_list("site", "hardware")
        .annotate(n=Count("pk"))
    )
    counts = {(site or "–", hardware or "–"): n for site, hardware, n in rows}
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
    found = [{"site": site, "hardware": hardware, "n": n} for (site, hardware), n in largest]
    cache.set(key, found, PREVIEW_SECONDS)
    return found


def stage_name(stage: RolloutStage) -> str:
    """A stage in words: its percentage, or who its canaries are."""
    if not stage.canary_selector:
        return f"{stage.percent:g} %"
    canaries = f"canary {selector_words(stage.canary_selector)}"
    return f"{canaries} and {stage.percent:g} %" if stage.percent else canaries


def _stage_row(
    rollout: Rollout,
    stage: RolloutStage,
    preview: dict[str, Any],
    counts: dict[str, int],
    now: datetime,
) -> dict[str, Any]:
    is_current = (
        rollout.state not in Rollout.NOT_STARTED_STATES
        and stage.index == rollout.current_stage
        and stage.finished_at is None
    )
    position = "done" if stage.finished_at else "current" if is_current else "later"
    row = {
        "number": stage.index + 1,
        "name": stage_name(stage),
        "position": position,
        "stage": stage,
        "devices": preview["devices"],
        "incompatible": preview["incompatible"],
        "unchanged": preview["unchanged"],
        "bake": _minutes(stage.bake_seconds),
        "baked": None,
        "percent": 100 if position == "done" else 0,
        "committed": None,
        "power": find_stage_power(
            preview["devices"] - preview["incompatible"],
            rollout.max_failure_rate,
            stage.success_threshold,
        ),
    }
    if is_current and stage.started_at and rollout.state in Rollout.LIVE_STATES:
        elapsed = max((now - stage.started_at).total_seconds(), 0)
        row["baked"] = _minutes(min(elapsed, stage.bake_seconds))
        row["percent"] = round(100 * min(elapsed / max(stage.bake_seconds, 1), 1))
        row["committed"] = counts.get(Installation.State.COMMITTED, 0)
    return row


def next_words(rollout: Rollout, now: datetime) -> str:
    """What happens next, in one sentence."""
    match rollout.state:
        case Rollout.State.DRAFT:
            gate = "; then it waits for approval" if rollout.is_approval_required else ""
            return f"Nothing reaches a device until a person starts it{gate}."
        case Rollout.State.AWAITING_APPROVAL:
            return "It waits for a person to approve it."
        case Rollout.State.SCHEDULED:
            return "It starts on its own at its scheduled time."
        case Rollout.State.ABORTING:
            return "Offers have stopped; devices on the target are offered the previous version."
        case Rollout.State.RUNNING | Rollout.State.PAUSED:
            return _decision_words(rollout, now)
    return "Nothing: it is over and never reopens."


def _decision_words(rollout: Rollout, now: datetime) -> str:
    from fleet.services.reconcile import rollout_facts

    facts, _ = rollout_facts(rollout, now)
    decision = decide_rollout(facts, now)
    if decision.action != Action.WAIT:
        return f"At the next tick: {decision.action.value}, because {decision.reason}."
    if rollout.state == Rollout.State.PAUSED:
        if rollout.pause_kind == Rollout.PauseKind.NO_EVIDENCE:
            return f"It resumes on its own once this is here: {decision.reason}."
        return "It stays here until a person resumes or aborts it."
    step = "completes" if facts.is_last_stage else "advances"
    if not facts.is_automatic:
        return f"It waits for a person to advance it; now: {decision.reason}."
    end = facts.stage_started_at + facts.bake
    when = f"at {timezone.localtime(end):%H:%M:%S %Z}" if end > now else "as soon as it may"
    return f"It {step} on its own {when} if all gates hold. Still open: {decision.reason}."


def gate_rows(rollout: Rollout, now: datetime) -> list[dict[str, Any]]:
    """Each gate with its answer in the current stage now, and the course of its values."""
    from fleet.services.evidence import limits_of, read_gate

    rows = []
    for gate in rollout.gates.all():
        recent = list(gate.evaluations.order_by("-id")[:TREND_ROWS])
        if rollout.state in Rollout.LIVE_STATES:
            # Evidence that was good when it came may be too old by now.
            verdict, latest = read_gate(gate, rollout.current_stage, now)
            said = verdict.value
        else:
            latest = recent[0] if recent else None
            said = latest.verdict if latest else "no_data"
        details = latest.details if latest else {}
        values = [row.value for row in reversed(recent) if row.value is not None]
        # Installations are no records.
        needed = 0 if gate.metric == INSTALLS else limits_of(gate).min_samples
        rows.append(
            {
                "gate": gate,
                "value": value_words(gate, latest.value if latest else None),
                "detail": _detail_words(gate, details),
                "words": _reference_words(details),
                "threshold": value_words(gate, gate.threshold),
                "control": value_words(gate, latest.control_value if latest else None),
                "evidence": _evidence_words(gate, latest, needed),
                "verdict": said.replace("_", " ").upper(),
                "at": latest.at if latest else None,
                "trend": sparkline(values),
            }
        )
    return rows


def value_words(gate: Gate, value: float | None) -> str:
    """A value in the metric's unit; a dash when there is none."""
    return gate_metrics.value_words(gate.metric, value)


def _detail_words(gate: Gate, details: dict[str, Any]) -> str:
    """Behind the value: the counts of installations, or where the effect may lie."""
    if gate.metric == INSTALLS and "finished" in details:
        words = f"{details.get('failed', 0)} of {details['finished']}"
        e_value = details.get("e_value")
        return words if e_value is None else f"{words}, evidence {e_value:,.3g} to 1 of 20"
    lower, upper = details.get("lower"), details.get("upper")
    if lower is None and upper is None:
        return ""
    ends = [value_words(gate, end) if end is not None else "?" for end in (lower, upper)]
    return f"{ends[0]} … {ends[1]}"


def _reference_words(details: dict[str, Any]) -> list[str]:
    """What the value is beside, which part speaks, and what would decide it."""
    words = [str(details[name]) for name in ("words", "advice") if details.get(name)]
    if details.get("hardware"):
        words.insert(0, f"hardware {details['hardware']}")
    if details.get("class") is not None and details.get("class_change") is not None:
        change = 100 * float(details["class_change"])
        words.insert(0, f"class {details['class']} changed most, by {change:+.1f} points")
    return words


def _evidence_words(gate: Gate, latest: GateEvaluation | None, needed: int) -> str:
    devices, samples = (latest.devices, latest.samples) if latest else (0, 0)
    words = write_count(devices, "device")
    if devices < gate.min_devices:
        words = f"{devices} of {write_count(gate.min_devices, 'device')} needed"
    if samples < needed:
        return f"{words}, {samples:,} of {needed:,} samples needed"
    return f"{words}, {samples:,} samples" if samples else words


def state_rows(counts: dict[str, int]) -> list[dict[str, Any]]:
    """Device states that some device is in, in the order of their story."""
    labels = dict(Installation.State.choices)
    return [
        {"state": state, "name": labels[state], "n": counts[state]}
        for state in STATE_ORDER
        if counts.get(state)
    ]


def _unreached(
    rollout: Rollout, reached: dict[str, Any] | None, counts: dict[str, int]
) -> int | None:
    if reached is None or rollout.state not in Rollout.LIVE_STATES:
        return None
    changed = reached["devices"] - reached["incompatible"] - reached["unchanged"]
    return int(max(changed - sum(counts.values()), 0))


def _failures(rollout: Rollout) -> Any:
    shown = [*Installation.FAILED_STATES, Installation.State.INCOMPATIBLE]
    return (
        selectors.latest_installations(rollout)
        .filter(state__in=shown)
        .select_related("device")
        .order_by("-updated_at")[:FAILURE_ROWS]
    )


def timeline(rollout: Rollout) -> list[dict[str, Any]]:
    """Transitions and changes of a gate's verdict, the newest first."""
    rows: list[dict[str, Any]] = [
        {
            "at": event.at,
            "what": event.action.replace("_", " "),
            "change": f"{event.from_state or 'new'} → {event.to_state}".replace("_", " "),
            "stage": event.stage_index + 1,
            "who": event.actor,
            "why": event.reason,
            "numbers": event.evidence,
        }
        for event in rollout.events.order_by("-id")[:TIMELINE_ROWS]
    ]
    for gate in rollout.gates.all():
        before = None
        answers = list(gate.evaluations.order_by("-id")[:TREND_ROWS])
        for answer in reversed(answers):
            if answer.verdict != before:
                limit = value_words(gate, answer.threshold)
                words = f"{value_words(gate, answer.value)} against {limit}"
                words += f", {write_count(answer.devices, 'device')}, {answer.samples:,} samples"
                rows.append(
                    {
                        "at": answer.at,
                        "what": f"gate {gate.title}",
                        "change": answer.verdict.replace("_", " ").upper(),
                        "stage": answer.stage_index + 1,
                        "who": "gate",
                        "why": words,
                        "numbers": answer.details,
                    }
                )
            before = answer.verdict
    return sorted(rows, key=lambda row: row["at"], reverse=True)[:TIMELINE_ROWS]


def effect_words(rollout: Rollout, action: str) -> str:
    """What an act touches, in numbers, before it is done."""
    model = rollout.deployment.model.slug
    target = rollout.target_version.version
    previous = rollout.previous_version.version if rollout.previous_version else "nothing"
    counts = selectors.count_states(rollout)
    touched = counts.get(Installation.State.COMMITTED, 0) + sum(
        counts.get(state, 0) for state in Installation.IN_FLIGHT_STATES
    )
    previews = stage_previews(rollout)
    if action == "abort":
        if rollout.state not in Rollout.LIVE_STATES:
            return "No device has been offered anything; none is touched."
        return f"{write_count(touched, 'device')} go back to {model} {previous}."
    if action == "advance":
        if rollout.current_stage + 1 >= len(previews):
            return f"It completes: {model} {target} becomes the stable version of all devices."
        now, following = previews[rollout.current_stage], previews[rollout.current_stage + 1]
        more = max(following["devices"] - now["devices"], 0)
        return f"{write_count(more, 'device')} more are offered {model} {target}."
    if action in ("start", "approve") and previews:
        reached = write_count(previews[0]["devices"], "device")
        if action == "start" and rollout.is_approval_required and rollout.state == "draft":
            return f"It then waits for approval; its first stage reaches {reached}."
        return f"{reached} are offered {model} {target} in the first stage."
    if action == "pause":
        return (
            f"No further device is reached; {write_count(touched, 'device')} stay where they are."
        )
    return "The stage's clock starts anew; devices it reaches are offered the target again."


def _minutes(seconds: float) -> str:
    span = timedelta(seconds=round(seconds))
    return f"{span.total_seconds():.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
