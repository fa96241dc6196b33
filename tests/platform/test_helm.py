"""The chart, rendered by Helm itself and held against the schemas of Kubernetes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.platform.test_processes import PROCESSES, ROOT

CHART = ROOT / "deploy" / "helm" / "aviary"
BIN = ROOT / ".venv-helm" / "bin"
ALL_ON = (
    "autoscaling.keda.enabled=true", "serviceMonitor.enabled=true", "ingress.enabled=true",
    "secrets.metrics=aviary-metrics",
)  # fmt: skip
#: Kinds of operators, whose schemas are their own.
FOREIGN = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor"}
if not (BIN / "helm").exists() and not os.environ.get("CI"):
    pytest.skip("no Helm: run `make .venv-helm`", allow_module_level=True)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "helm"), *arguments], capture_output=True, text=True, check=False
    )


def render(*changes: str) -> list[dict[str, Any]]:
    chosen = [word for change in changes for word in ("--set", change)]
    done = helm("template", "aviary", str(CHART), *chosen)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in documents if one["kind"] == kind}


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod of each process, by the process's name."""
    found = {}
    for kind in ("Deployment", "Job"):
        for document in of_kind(documents, kind).values():
            name = document["metadata"]["labels"]["app.kubernetes.io/component"]
            found[name] = document["spec"]["template"]["spec"]
    return found


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return render(*ALL_ON)


def test_helm_finds_nothing_wrong() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("changes", [(), ALL_ON], ids=["as it is", "all on"])
def test_what_is_rendered_is_what_kubernetes_takes(changes: Any, tmp_path: Path) -> None:
    for number, document in enumerate(render(*changes)):
        if document["kind"] in FOREIGN:
            assert document["apiVersion"].partition("/")[2], document
            continue
        path = tmp_path / f"{number}-{document['kind']}.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        done = subprocess.run(
            [str(BIN / "kubernetes-validate"), "--strict", str(path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_field_that_kubernetes_has_not_is_found(tmp_path: Path) -> None:
    document = of_kind(render(), "Service")["aviary-web"]
    document["spec"]["sellector"] = {}
    path = tmp_path / "service.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    line = [str(BIN / "kubernetes-validate"), "--strict", str(path)]
    assert subprocess.run(line, capture_output=True, check=False).returncode != 0


def test_every_process_of_the_table_runs_with_its_command(documents) -> None:
    found = pods(documents)
    # The signing service runs in each pod, and what stands in front is the cluster's ingress.
    assert set(found) == set(PROCESSES) - {"signer", "proxy"}
    for name, pod in found.items():
        (container,) = pod["containers"]
        assert container["command"] == PROCESSES[name]["command"], name
        (signer,) = pod["initContainers"]
        assert signer["command"] == PROCESSES["signer"]["command"]


def test_the_keys_are_in_the_signing_container_alone(documents) -> None:
    for name, pod in pods(documents).items():
        (signer,) = pod["initContainers"]
        (server,) = pod["containers"]
        assert "signer-keys" in {mount["name"] for mount in signer["volumeMounts"]}
        assert "signer-keys" not in {mount["name"] for mount in server["volumeMounts"]}, name
        assert signer["securityContext"]["runAsUser"] != pod["securityContext"]["runAsUser"]
        assert "env" not in signer


def test_the_owner_of_the_tables_is_known_to_the_hook_alone(documents) -> None:
    for name, pod in pods(documents).items():
        assert ("aviary-owner" in yaml.safe_dump(pod)) == (name == "migrate")
    (job,) = of_kind(documents, "Job").values()
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"


def test_no_process_is_root_or_writes_outside_its_volumes(documents) -> None:
    for pod in pods(documents).values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in (*pod["containers"], *pod["initContainers"]):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_there_is_one_clock_and_a_new_one_waits_for_the_end_of_the_old(documents) -> None:
    beat = of_kind(documents, "Deployment")["aviary-beat"]["spec"]
    assert (beat["replicas"], beat["strategy"]) == (1, {"type": "Recreate"})
    for kind in ("ScaledObject", "HorizontalPodAutoscaler", "PodDisruptionBudget"):
        assert "aviary-beat" not in of_kind(documents, kind)


def test_workers_scale_by_the_queues_of_the_table(documents) -> None:
    scaled = of_kind(documents, "ScaledObject")
    expected = {f"aviary-{name}": one["queues"] for name, one in PROCESSES.items() if one["queues"]}
    found = {
        name: [trigger["metadata"]["listName"] for trigger in one["spec"]["triggers"]]
        for name, one in scaled.items()
    }
    assert found == expected
    # Who scales decides how many there are: a number here would undo it at each upgrade.
    for name in (*expected, "aviary-web"):
        assert "replicas" not in of_kind(documents, "Deployment")[name]["spec"]


def test_everything_long_lived_has_a_probe_and_no_secret_is_made(documents) -> None:
    for name, pod in pods(documents).items():
        if name != "migrate":
            assert pod["containers"][0]["livenessProbe"]
    assert not of_kind(documents, "Secret")


def test_only_the_web_server_may_be_called(documents) -> None:
    policies = of_kind(documents, "NetworkPolicy")
    assert "ingress" not in policies["aviary"]["spec"]
    web = policies["aviary-web"]["spec"]
    assert web["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "web"
    assert [port["port"] for rule in web["ingress"] for port in rule["ports"]] == [8000]


def test_prometheus_needs_the_name_of_its_secret() -> None:
    done = helm("template", "aviary", str(CHART), "--set", "serviceMonitor.enabled=true")
    assert done.returncode != 0 and "secrets.metrics" in done.stderr
