"""The pipelines of `docs/ci/`, as lists of shell commands with the environment they run in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "docs" / "ci"
Job = tuple[dict[str, str], list[str]]


def github_jobs(values: Mapping[str, str]) -> list[Job]:
    """Environment and commands of each job, in the order in which one needs another."""
    document = yaml.safe_load((FOLDER / "github-workflow.yml").read_text())
    found: list[Job] = []
    done: set[str] = set()
    jobs: dict[str, Any] = document["jobs"]
    while len(done) < len(jobs):
        name, job = next(
            (name, job)
            for name, job in jobs.items()
            if name not in done and {job.get("needs")} <= {None, *done}
        )
        done.add(name)
        environment = {**document["env"], **job.get("env", {})}
        filled = {key: _fill(str(value), values) for key, value in environment.items()}
        found.append((filled, [_fill(s["run"], values) for s in job["steps"] if "run" in s]))
    return found


def gitlab_jobs() -> list[Job]:
    """Environment and commands of each job, stage by stage."""
    document = yaml.safe_load((FOLDER / "gitlab-ci.yml").read_text())
    before = document["default"]["before_script"]
    jobs = [job for job in document.values() if isinstance(job, dict) and "script" in job]
    jobs.sort(key=lambda job: document["stages"].index(job["stage"]))
    return [(document["variables"], [*before, *job["script"]]) for job in jobs]


def _fill(text: str, values: Mapping[str, str]) -> str:
    """The text with `${{ … }}` replaced; raises KeyError for one that is not given."""
    return re.sub(r"\$\{\{\s*([\w.]+)\s*\}\}", lambda match: values[match[1]], text)
