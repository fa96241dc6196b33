"""What people and pipelines do with a server, one method each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aviary_client.addresses import model_path, version_path
from aviary_client.downloads import download_files
from aviary_client.errors import ApiError, UsageError
from aviary_client.rows import (
    DataSet,
    Deployment,
    Device,
    File,
    Incident,
    Job,
    JoinToken,
    Rollout,
    Version,
)
from aviary_client.telling import tell_variants, write_proposal
from aviary_client.transport import Transport
from aviary_client.uploads import Progress, upload_files
from aviary_client.waiting import (
    FINAL_JOBS,
    check_rollout,
    check_state,
    is_rollout_over,
    wait_for,
)

DAY_SECONDS = 86_400.0
_READY = frozenset({"ready", "approved", "deprecated"})


def _quiet(done: int, whole: int) -> None:
    """Tells nobody."""


class Client:
    """A server, called with one token. Every method may raise ApiError and TransferError."""

    def __init__(self, server: str, token: str) -> None:
        self.transport = Transport(server, token)

    def whoami(self) -> dict[str, Any]:
        """Who the token belongs to, and the server's version."""
        return dict(self.transport.get(""))

    # Models and versions

    def models(self) -> Iterator[dict[str, Any]]:
        """All models, newest first."""
        return self.transport.rows("models/")

    def create_model(
        self, slug: str, *, task: str = "classification", labels: Sequence[str] = ()
    ) -> dict[str, Any]:
        """A new model."""
        body = {"slug": slug, "task": task, "labels": list(labels)}
        return dict(self.transport.post("models/", body))

    def versions(self, model: str, *, state: str | None = None) -> Iterator[Version]:
        """Versions of a model, newest first."""
        return self.transport.rows(f"{model_path(model)}versions/", state=state)

    def version(self, model: str, version: str) -> Version:
        """One version with its variants."""
        found: Version = self.transport.get(version_path(model, version))
        return found

    def push(
        self,
        model: str,
        version: str,
        files: Mapping[str, Path],
        *,
        metadata: Mapping[str, Any] | None = None,
        dataset: int | None = None,
        progress: Progress = _quiet,
    ) -> Version:
        """The new version, which the server validates next.

        Bytes that the server has are not sent again; what was interrupted goes on.

        Args:
            files: path in the variant to the file here.
            metadata: `notes`, `tags`, `source`, `requirements`, … as `docs/registry.md` says.
            dataset: id of an evaluation set, for baseline and accuracy.
            progress: called with bytes that are there and bytes in all.
        """
        blobs = upload_files(self.transport, files, progress)
        fields = {"version": version, "blobs": json.dumps(blobs)}
        if metadata:
            fields["metadata"] = json.dumps(dict(metadata))
        if dataset is not None:
            fields["dataset"] = str(dataset)
        made: Version = self.transport.post_form(f"{model_path(model)}versions/", fields)
        return made

    def wait_version(
        self,
        model: str,
        version: str,
        *,
        timeout_seconds: float = 3600.0,
        interval_seconds: float = 1.0,
    ) -> Version:
        """The version once it is validated. Raises OutcomeError when it was rejected."""
        found = wait_for(
            lambda: self.version(model, version),
            lambda row: row["state"] not in ("draft", "validating"),
            what=f"{model} {version}",
            timeout_seconds=timeout_seconds,
            interval_seconds=interval_seconds,
        )
        words = f"{model} {version} is {found['state']}: {found['rejection_reason']}"
        check_state(found, _READY, words)
        return found

    def move_version(self, model: str, version: str, to: str, reason: str = "") -> Version:
        """The version `approved`, `deprecated` or `yanked`; the last needs a reason."""
        moved: Version = self.transport.post(
            f"{version_path(model, version)}transition/", {"to": to, "reason": reason}
        )
        return moved

    def move_alias(self, model: str, alias: str, version: str, reason: str = "") -> dict[str, Any]:
        """The alias at another version."""
        path = f"{model_path(model)}aliases/{quote(alias, safe='')}/"
        return dict(self.transport.put(path, {"version": version, "reason": reason}))

    def datasets(self, model: str) -> Iterator[DataSet]:
        """Data sets of a model, newest first."""
        return self.transport.rows(f"{model_path(model)}datasets/")

    def dataset(self, model: str, name: str) -> DataSet:
        """The data set of that name. Raises ApiError with 404."""
        for row in self.datasets(model):
            if row["name"] == name:
                return row
        raise ApiError(404, "not_found", f"{model} has no data set {name!r}")

    def add_dataset(self, model: str, name: str, path: Path, kind: str = "evaluation") -> DataSet:
        """A data set of an npz file."""
        if not path.is_file():
            raise UsageError(f"There is no file {path}")
        made: DataSet = self.transport.post_form(
            f"{model_path(model)}datasets/",
            {"name": name, "kind": kind, "file": (path.name, path.read_bytes())},
        )
        return made

    def files(self, model: str, version: str, variant: str) -> list[File]:
        """The files of a variant with addresses of their bytes."""
        path = f"{version_path(model, version)}variants/{quote(variant, safe='')}/files/"
        return list(self.transport.get(path))

    def download(
        self,
        model: str,
        version: str,
        folder: Path,
        *,
        variant: str = "fp32",
        progress: Progress = _quiet,
    ) -> list[Path]:
        """The files of a variant in a folder, each with the digest that the server says."""
        return download_files(self.transport, self.files(model, version, variant), folder, progress)

    def compare(self, model: str, versions: Sequence[str]) -> list[dict[str, Any]]:
        """A row for each variant of the versions: state, bytes, accuracy, latency."""
        return [row for name in versions for row in tell_variants(self.version(model, name))]

    # Compression

    def compress(
        self,
        model: str,
        version: str,
        *,
        evaluation: str,
        calibration: str | None = None,
        preset: str | None = None,
        recipe: Mapping[str, Any] | None = None,
        variant_name: str = "",
    ) -> Job:
        """The job that was ordered, or one that was there for an equal order.

        Args:
            evaluation: name of the data set that it is measured with, like `calibration`.
        """
        body: dict[str, Any] = {
            "version": self.version(model, version)["id"],
            "evaluation_dataset": self.dataset(model, evaluation)["id"],
        }
        if calibration is not None:
            body["calibration_dataset"] = self.dataset(model, calibration)["id"]
        given = {"preset": preset, "recipe": recipe, "variant_name": variant_name or None}
        body |= {name: value for name, value in given.items() if value is not None}
        made: Job = self.transport.post("compression/jobs/", body)
        return made

    def job(self, job_id: str) -> Job:
        """One compression job."""
        found: Job = self.transport.get(f"compression/jobs/{quote(job_id, safe='')}/")
        return found

    def wait_job(
        self,
        job_id: str,
        *,
        timeout_seconds: float = DAY_SECONDS,
        interval_seconds: float = 2.0,
        on_change: Callable[[Job], None] = lambda job: None,
    ) -> Job:
        """The job once it ended. Raises OutcomeError unless it passed."""
        job = wait_for(
            lambda: self.job(job_id),
            lambda row: row["state"] in FINAL_JOBS,
            what=f"Job {job_id}",
            timeout_seconds=timeout_seconds,
            interval_seconds=interval_seconds,
            on_change=on_change,
        )
        words = f"Job {job_id} ended as {job['state']}" + (
            f": {job['error']}" if job["error"] else ""
        )
        check_state(job, {"passed"}, words)
        return job

    # Fleet

    def deployments(self, *, name: str | None = None) -> Iterator[Deployment]:
        """Deployments, newest first."""
        return self.transport.rows("deployments/", name=name)

    def deployment(self, name: str) -> Deployment:
        """The deployment of that name. Raises ApiError with 404."""
        for row in self.deployments(name=name):
            return row
        raise ApiError(404, "not_found", f"There is no deployment {name!r}")

    def create_deployment(
        self,
        name: str,
        *,
        model: str,
        version: str,
        selector: Mapping[str, Sequence[str]] | None = None,
        priority: int = 0,
    ) -> Deployment:
        """A new deployment, whose devices run the version from now on."""
        made: Deployment = self.transport.post(
            "deployments/",
            {
                "name": name,
                "model": model,
                "stable_version": version,
                "selector": {key: list(values) for key, values in (selector or {}).items()},
                "priority": priority,
            },
        )
        return made

    def create_rollout(
        self,
        deployment: str,
        version: str,
        *,
        stages: Sequence[Mapping[str, Any]] | None = None,
        gates: Sequence[Mapping[str, Any]] = (),
        variants: Sequence[str] | None = None,
        reason: str = "",
        **options: Any,
    ) -> Rollout:
        """A draft: nothing reaches a device before it is started.

        Args:
            stages: their fields as `docs/fleet.md` has them; None for the stages and gates that
                the server proposes.
            options: other fields of a rollout, such as `is_approval_required`.
        """
        found = self.deployment(deployment)
        if stages is None:
            if gates or options:
                raise UsageError("Gates and options need stages; without them all is proposed")
            proposal = write_proposal(version, variants, reason)
            changed: Deployment = self.transport.patch(f"deployments/{found['id']}/", proposal)
            if changed["proposed_rollout"] is None:
                raise UsageError(f"{deployment} offers {version} already")
            return self.rollout(changed["proposed_rollout"])
        body = {
            **write_proposal(version, variants, reason, field="target_version"),
            "deployment": found["id"],
            "stages": [dict(stage) for stage in stages],
            "gates": [dict(gate) for gate in gates],
            **options,
        }
        made: Rollout = self.transport.post("rollouts/", body)
        return made

    def rollouts(self, *, state: str | None = None) -> Iterator[Rollout]:
        """Rollouts, newest first, without stages and events."""
        return self.transport.rows("rollouts/", state=state)

    def rollout(self, rollout_id: int) -> Rollout:
        """One rollout with stages, gates, devices and events."""
        found: Rollout = self.transport.get(f"rollouts/{rollout_id}/")
        return found

    def step_rollout(self, rollout_id: int, step: str, reason: str = "") -> Rollout:
        """The rollout after a step: `start`, `approve`, `advance`, `pause`, `resume`, `abort`."""
        if step not in ("start", "approve", "advance", "pause", "resume", "abort"):
            raise UsageError(f"{step!r} is no step of a rollout")
        moved: Rollout = self.transport.post(f"rollouts/{rollout_id}/{step}/", {"reason": reason})
        return moved

    def watch_rollout(
        self,
        rollout_id: int,
        *,
        timeout_seconds: float = 7 * DAY_SECONDS,
        interval_seconds: float = 5.0,
        is_pause_end: bool = False,
        on_change: Callable[[Rollout], None] = lambda rollout: None,
    ) -> Rollout:
        """The rollout once it completed.

        Args:
            is_pause_end: a rollout that is held is over, too.

        Raises:
            OutcomeError: it ended otherwise; `exit` says how.
            WaitTimeoutError: it had not ended.
        """
        found = wait_for(
            lambda: self.rollout(rollout_id),
            lambda row: is_rollout_over(row, is_pause_end=is_pause_end),
            what=f"Rollout {rollout_id}",
            timeout_seconds=timeout_seconds,
            interval_seconds=interval_seconds,
            on_change=on_change,
        )
        check_rollout(found)
        return found

    def devices(
        self, *, labels: Mapping[str, str] | None = None, status: str | None = None
    ) -> Iterator[Device]:
        """Devices that have all the labels, newest first."""
        asked = ",".join(f"{name}={value}" for name, value in (labels or {}).items())
        return self.transport.rows("devices/", label=asked or None, status=status)

    def create_join_token(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        max_uses: int = 1,
        is_auto_accept: bool = False,
        expires_at: str | None = None,
    ) -> JoinToken:
        """A token with which devices enrol; its secret is in this answer alone."""
        body: dict[str, Any] = {
            "name": name,
            "labels": dict(labels or {}),
            "max_uses": max_uses,
            "is_auto_accept": is_auto_accept,
        }
        if expires_at is not None:
            body["expires_at"] = expires_at
        made: JoinToken = self.transport.post("join-tokens/", body)
        return made

    def join_tokens(self) -> Iterator[JoinToken]:
        """Join tokens without their secrets, newest first."""
        return self.transport.rows("join-tokens/")

    def revoke_join_token(self, token_id: int) -> JoinToken:
        """The token, with which no device joins any more."""
        found: JoinToken = self.transport.post(f"join-tokens/{token_id}/revoke/")
        return found

    def incidents(
        self, *, model: str | None = None, is_open: bool | None = None
    ) -> Iterator[Incident]:
        """Incidents, newest first."""
        wanted = None if is_open is None else str(is_open).lower()
        return self.transport.rows("incidents/", model=model, open=wanted)
