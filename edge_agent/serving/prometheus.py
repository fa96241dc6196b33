"""The local endpoint's numbers as text for Prometheus (exposition format 0.0.4)."""

from collections.abc import Iterable, Mapping
from typing import Any

KIND = "text/plain; version=0.0.4; charset=utf-8"
_TEXTS = {
    "aviary_agent_up": "1 while the agent answers.",
    "aviary_agent_model": "1 for each release that runs.",
    "aviary_agent_latency_ms": "Of recent answers, by quantile.",
    "aviary_agent_spool": "What waits on the disk, and what became of it.",
    "aviary_agent_resource": "What the machine has and uses.",
    "aviary_agent_trouble": "1 for each part that does not work.",
}


def render(
    models: Iterable[tuple[str, str, Mapping[str, float]]],
    spool: Mapping[str, Any],
    resources: Mapping[str, float],
    trouble: Iterable[str],
) -> bytes:
    """The text.

    Args:
        models: slug, version and latencies of each release that runs.
        spool: as `Spool.stat` has it; what is no number is left out.
        resources: as `read_resources` has them.
        trouble: the parts that do not work.
    """
    rows: dict[str, list[tuple[dict[str, str], float]]] = {name: [] for name in _TEXTS}
    rows["aviary_agent_up"].append(({}, 1))
    for slug, version, latency in models:
        rows["aviary_agent_model"].append(({"model": slug, "version": version}, 1))
        rows["aviary_agent_latency_ms"] += [
            ({"model": slug, "of": name}, value)
            for name, value in sorted(latency.items())
            if _is_number(value)
        ]
    rows["aviary_agent_spool"] += [
        ({"of": name}, value) for name, value in sorted(spool.items()) if _is_number(value)
    ]
    rows["aviary_agent_resource"] += [({"of": k}, v) for k, v in sorted(resources.items())]
    rows["aviary_agent_trouble"] += [({"part": part}, 1) for part in sorted(trouble)]
    lines = []
    for name, found in rows.items():
        lines += [f"# HELP {name} {_TEXTS[name]}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(labels)} {float(value)!r}" for labels, value in found]
    return ("\n".join(lines) + "\n").encode()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = [f'{name}="{_escape(value)}"' for name, value in labels.items()]
    return "{" + ",".join(pairs) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
