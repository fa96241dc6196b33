"""The story, chapter by chapter; each does only what is not done yet, so it may be resumed."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from demo import plans
from demo.agents import DISTURBED_SITE, Agent, planned_devices
from demo.client import Api
from demo.inputs import DATA
from demo.narration import Narrator, StoryError
from demo.plans import BAD, BETTER, FIRST, MODEL

CHAPTERS = 7
MODEL_PATH = f"models/{MODEL}/"


class Story:
    """Plays the chapters through `api` and `agents`; `facts` keeps what the verification needs."""

    def __init__(self, api: Api, agents_home: Path, narrator: Narrator) -> None:
        self.api = api
        self.agents = [Agent(spec, agents_home) for spec in planned_devices()]
        self.say = narrator
        self.facts: dict[str, Any] = {}

    def play(self) -> None:
        self.publish_first_version()
        self.compress_first_version()
        self.enrol_devices()
        self.deploy_first_version()
        self.release_better_version()
        self.release_bad_version()
        self.disturb_inputs()

    def stop(self) -> None:
        with ThreadPoolExecutor(len(self.agents)) as pool:
            list(pool.map(Agent.stop, self.agents))

    # --- 1 ------------------------------------------------------------------------------------
    def publish_first_version(self) -> None:
        self.say.chapter("Publish a model")
        if self.api.find(MODEL_PATH) is None:
            self.api.post("models/", plans.MODEL_BODY)
        known = {row["name"]: row for row in self.api.list(f"{MODEL_PATH}datasets/")}
        for name, file_name in plans.DATASETS.items():
            if name not in known:
                kind = "calibration" if name == "calibration" else "evaluation"
                fields = {"name": name, "kind": kind}
                known[name] = self.api.upload(f"{MODEL_PATH}datasets/", DATA / file_name, fields)
            self.say.line(f"data set {name}: {known[name]['rows']} images")
        self.datasets = {name: row["id"] for name, row in known.items()}
        self.api.patch(f"{MODEL_PATH}drift-policy/", plans.DRIFT_POLICY)
        self._publish(FIRST)

    def _publish(self, version: str) -> dict[str, Any]:
        """Upload, wait for the validation, approve; the version as the server then shows it."""
        path = f"{MODEL_PATH}versions/{version}/"
        if self.api.find(path) is None:
            self.api.upload(
                f"{MODEL_PATH}versions/",
                DATA / f"digits-cnn-{version}.onnx",
                {
                    "version": version,
                    "dataset": str(self.datasets[plans.EVALUATED_ON[version]]),
                    "metadata": f'{{"notes": "{plans.NOTES[version]}"}}',
                },
            )

        def probe() -> tuple[dict[str, Any] | None, str]:
            row = self.api.get(path)
            if row["state"] == "rejected":
                raise StoryError(f"{version} was rejected: {row['rejection_reason']}")
            return (row if row["state"] in ("ready", "approved") else None), row["state"]

        row = self.say.wait_for(f"validation of {version}", probe)
        if row["state"] == "ready":
            reason = {"to": "approved", "reason": "Demonstration"}
            row = self.api.post(f"{path}transition/", reason)
        fp32 = next(item for item in row["variants"] if item["name"] == "fp32")
        size = fp32["files"][0]["size_bytes"]
        accuracy = (fp32["metrics"] or {}).get("accuracy", row["metrics"].get("accuracy"))
        measured = f"accuracy {accuracy:.1%}" if accuracy is not None else "no accuracy"
        self.say.line(
            f"{version} is {row['state']}: {size:,} bytes, {measured} on its own evaluation set, "
            f"manifest {fp32['manifest_sha256'][:12]} signed"
        )
        return dict(row)

    # --- 2 ------------------------------------------------------------------------------------
    def compress_first_version(self) -> None:
        self.say.chapter("Compress it to static INT8")
        jobs = self.api.list("compression/jobs/")
        job = next((row for row in jobs if row["state"] == "passed"), None)
        if job is None:
            job = self.api.post(
                "compression/jobs/",
                {
                    "version": self.api.get(f"{MODEL_PATH}versions/{FIRST}/")["id"],
                    "preset": "static-int8",
                    "calibration_dataset": self.datasets["calibration"],
                    "evaluation_dataset": self.datasets["held-out"],
                },
            )
        path = f"compression/jobs/{job['id']}/"

        def probe() -> tuple[dict[str, Any] | None, str]:
            row = self.api.get(path)
            if row["state"] in ("failed", "cancelled", "collapsed", "failed_gate"):
                raise StoryError(f"the job is {row['state']}: {row.get('error')}")
            done = row["progress"]["fraction"]
            return (row if row["state"] == "passed" else None), f"{row['state']} {done:.0%}"

        job = self.say.wait_for("compression", probe)
        self.facts["job"] = job
        report = job["report"]
        for name in ("source", "variant"):
            self.say.line(_describe_measurement(name, report[name]))

    # --- 3 ------------------------------------------------------------------------------------
    def enrol_devices(self) -> None:
        self.say.chapter(f"Enrol {len(self.agents)} devices")
        known = {row["device_id"] for row in self.api.list("devices/")}
        self.is_disturbed = any(DISTURBED_SITE in row["slice"] for row in self._incidents())
        newcomers = []
        for agent in self.agents:
            disturbed = self.is_disturbed and agent.spec.site == DISTURBED_SITE
            agent.prepare(self.api.base_url, is_disturbed=disturbed)
            if agent.spec.device_id not in known or not agent.is_known_here:
                newcomers.append(agent)
        if newcomers:
            token = self.api.post(
                "join-tokens/",
                {
                    "name": "demonstration",
                    "is_auto_accept": True,
                    "max_uses": len(newcomers),
                    "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
                },
            )["token"]
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda agent: agent.enroll(token), newcomers))
            self.say.line(f"{len(newcomers)} devices used one join token; it is used up now")
        for agent in self.agents:
            agent.start()
        accepted = [row for row in self.api.list("devices/") if row["status"] == "accepted"]
        self.say.line(f"{len(accepted)} devices are accepted and poll every second")

    # --- 4 ------------------------------------------------------------------------------------
    def deploy_first_version(self) -> None:
        self.say.chapter("Deploy 1.0.0 to all of them")
        rows = self.api.list("deployments/")
        self.deployment = next((row for row in rows if row["name"] == plans.DEPLOYMENT), None)
        if self.deployment is None:
            body = {"name": plans.DEPLOYMENT, "model": MODEL, "selector": {}}
            self.deployment = self.api.post(
                "deployments/", {**body, "stable_version": FIRST, "priority": 10}
            )
        stable = str(self.deployment["stable_version"])
        self._wait_for_fleet(stable)

        def probe() -> tuple[int | None, str]:
            windows = self.api.list(f"{MODEL_PATH}windows/")
            devices = max((row["devices"] for row in windows), default=0)
            records = sum(row["n"] for row in windows)
            # Gates compare each device with its own past: a short one would leave them undecided.
            wanted = plans.PAST_RECORDS * len(self.agents)
            done = devices >= len(self.agents) // 2 and records >= wanted
            said = f"{records:,} of {wanted:,} records, {devices} devices at a time"
            return (records if done else None), said

        records = self.say.wait_for("records", probe)
        self.say.line(f"{records:,} records of real inferences have arrived")

    def _wait_for_fleet(self, version: str, sites: tuple[str, ...] = ()) -> None:
        """Until every agent (of `sites`) says itself that it runs `version`."""
        chosen = [agent for agent in self.agents if not sites or agent.spec.site in sites]

        def probe() -> tuple[bool | None, str]:
            with ThreadPoolExecutor(2) as pool:
                versions = list(pool.map(lambda agent: agent.running_version(MODEL), chosen))
            there = versions.count(version)
            return (True if there == len(chosen) else None), f"{there} of {len(chosen)}"

        self.say.wait_for(f"{version} on devices", probe, interval_seconds=2.0)
        where = f" at {', '.join(sites)}" if sites else ""
        self.say.line(f"{len(chosen)} devices{where} verified, tried and run {version}")

    # --- 5 and 6 ------------------------------------------------------------------------------
    def release_better_version(self) -> None:
        self.say.chapter("Release 1.1.0 by canary: it is better, so it goes all the way on its own")
        self._publish(BETTER)
        rollout = self._roll_out(BETTER, until=("completed",), never=("aborted", "rolled_back"))
        self.say.line(f"rollout {rollout['id']} is {rollout['state']}")
        self._wait_for_fleet(BETTER)

    def release_bad_version(self) -> None:
        self.say.chapter("Release 1.2.0 by canary: excellent on paper, wrong in the field")
        self._publish(BAD)
        rollout = self._roll_out(BAD, until=("aborted", "rolled_back"), never=("completed",))
        self.say.line(f"rollout {rollout['id']} is {rollout['state']}: {rollout['reason']}")
        self._wait_for_fleet(BETTER)

    def _roll_out(self, target: str, *, until: tuple[str, ...], never: tuple[str, ...]) -> Any:
        rows = self.api.list("rollouts/")
        found = next((row for row in rows if row["target_version"] == target), None)
        if found is None:
            assert self.deployment is not None
            body = plans.rollout_body(self.deployment["id"], target)
            found = self.api.post("rollouts/", body)
        path = f"rollouts/{found['id']}/"
        if found["state"] == "draft":
            self.api.post(f"{path}start/", {"reason": "Demonstration"})
        seen: set[str] = set()

        def probe() -> tuple[dict[str, Any] | None, str]:
            row = self.api.get(path)
            for text in _rollout_lines(row):
                if text not in seen:
                    seen.add(text)
                    self.say.line(text)
            if row["state"] in never:
                raise StoryError(f"rollout of {target} is {row['state']}: {row['reason']}")
            gates = ", ".join(map(_describe_gate, row["gates"]))
            state = f"{row['state']}, stage {row['current_stage'] + 1}, {row['devices']}, {gates}"
            return (row if row["state"] in until else None), state

        return self.say.wait_for(f"rollout of {target}", probe)

    # --- 7 ------------------------------------------------------------------------------------
    def disturb_inputs(self) -> None:
        self.say.chapter(f"The cameras at {DISTURBED_SITE} are knocked over: drift")
        for agent in self.agents:
            if agent.spec.site == DISTURBED_SITE and not self.is_disturbed:
                agent.feed(is_disturbed=True)
        self.say.line(f"{DISTURBED_SITE} sends turned and noisy digits now")

        def probe() -> tuple[dict[str, Any] | None, str]:
            rows = [row for row in self._incidents() if DISTURBED_SITE in row["slice"]]
            states = ", ".join(f"{row['metric']} {row['status']}" for row in rows)
            firing = [row for row in rows if row["status"] in ("firing", "acknowledged")]
            psi = [row for row in firing if row["metric"] == "prediction_psi"]
            windows = len(self.api.list(f"{MODEL_PATH}windows/"))
            return (psi[0] if psi else None), f"{states or 'nothing yet'} in {windows} windows"

        incident = self.say.wait_for("drift", probe)
        self.facts["incident"] = incident
        self.say.line(
            f"incident {incident['id']} fires ({incident['severity']}): {incident['metric']} of "
            f"{incident['slice']} is {incident['value']:.2f}, limit {incident['threshold']:.2f}"
        )

    def _incidents(self) -> list[dict[str, Any]]:
        return self.api.list("incidents/", model=MODEL)


def _describe_measurement(name: str, measured: dict[str, Any]) -> str:
    label = {"source": "FP32", "variant": "INT8"}[name]
    accuracy = measured.get("accuracy")
    if isinstance(accuracy, dict):
        accuracy = accuracy.get("value")
    latency = (measured.get("latency") or {}).get("p50_ms")
    parts = [f"{measured['bytes']:,} bytes"]
    parts.append("accuracy unknown" if accuracy is None else f"accuracy {accuracy:.1%}")
    parts.append("latency unknown" if latency is None else f"{latency:.3f} ms at the median")
    return f"{label}: " + ", ".join(parts)


def _describe_gate(gate: dict[str, Any]) -> str:
    """The last verdict, and how much it rests on: that grows while a gate waits."""
    latest = gate["latest"] or {}
    basis = f" from {latest['samples']} records of {latest['devices']} devices" if latest else ""
    return f"{gate['metric']} {latest.get('verdict', 'no_data')}{basis}"


def _rollout_lines(row: dict[str, Any]) -> list[str]:
    """One line per event of a rollout, and one per gate that has failed."""
    lines = [
        f"stage {event['stage_index'] + 1}: {event['action']} by {event['actor']}"
        + (f" ({event['reason']})" if event["reason"] else "")
        for event in sorted(row["events"], key=lambda event: event["revision"])
    ]
    for gate in row["gates"]:
        latest = gate["latest"] or {}
        if latest.get("verdict") == "fail":
            # Without the value: it moves with every look, and each line is shown once.
            lines.append(f"gate {gate['metric']} fails: above its limit of {gate['threshold']}")
    return lines
