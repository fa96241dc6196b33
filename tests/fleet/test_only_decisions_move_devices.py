"""What devices are to run changes by rollouts and by what people name, and by nothing else."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import io
import pkgutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from nacl.signing import SigningKey

import compression.services
import registry.services
from compression.services import jobs, queue
from compression.services.running import run_job
from fleet.models import Deployment, Device, Plan
from fleet.selectors import desired_assignments
from fleet.services.plans import refresh_all_plans
from fleet.services.reconcile import tick_rollouts
from registry.models import BlobUpload, Version
from registry.services import (
    aliases,
    audit_anchors,
    baselines,
    blob_uploads,
    blobs,
    composition,
    contracts,
    datasets,
    deltas,
    garbage,
    trust,
    trust_renewal,
    uploads,
    variants,
    versions,
)
from registry.services import audit as audit_log
from registry.services import models as registry_models
from registry.signer.keys import FileKeyStore, read_key
from registry.trust import metadata
from tests.factories import compression as made
from tests.factories.fleet import make_client, make_deployment, make_device
from tests.factories.registry import make_onnx

pytestmark = pytest.mark.django_db

#: Functions that write nothing that a plan is made of, or nothing at all.
READS = {
    "registry.services.audit": {"verify_chain", "event_digest"},
    "registry.services.audit_anchors": {
        "anchor_names", "read_anchors", "expected_ends", "restorations",
    },
    "registry.services.blob_uploads": {
        "find_upload", "received_parts", "part_addresses", "take_part", "complete_upload",
    },
    "registry.services.contracts": {
        "given_contract", "check_given", "find_conflict", "contract_of_variants",
        "manifest_contract",
    },
    "registry.services.parts": {"part_store"},
    "registry.services.blobs": {
        "open_blob", "copy_blob", "publish_bytes", "staging_folder", "private_folder", "blob_url",
        "is_url_valid", "is_referenced", "referring_fields",
    },
    "registry.services.deltas": {"find_delta"},
    "registry.services.garbage": {"find_garbage"},
    "registry.services.inspection": {"inspect_files", "inspect_dataset", "is_task_open"},
    "registry.services.trust": {
        "introduce_root", "online_delegations", "read_file", "read_manifest", "sign_with",
        "trust_hint",
    },
    "registry.services.trust_renewal": {"latest"},
    "registry.services.uploads": {"check_metadata", "choose_roles"},
    "registry.services.versions": {"versions_to_validate"},
    "compression.services.orders": {"prepare_job"},
    "compression.services.reruns": {"compare_rerun", "result_digest", "list_timed_passes"},
    "compression.services.results": {
        "describe_origin", "is_random", "require_isa", "summarise_report",
    },
}  # fmt: skip
#: Called by another function of this table, with the arguments that only that one has.
INNER = {
    "registry.services.variants": {"finish_variant"},
    "registry.services.baselines": {"activate_baseline"},
    "registry.services.contracts": {"take_contract"},
    "registry.services.trust": {"begin_trust"},
    "registry.services.trust_renewal": {"store_metadata", "lock_trust"},
    "compression.services.results": {"attach_result"},
}
#: These are decisions: their effects have tests of their own below.
DECISIONS = {"registry.services.versions": {"transition_version"}}


def attach(version: Version) -> Any:
    blob = version.variants.get(name="fp32").files.get(role="model").blob_id
    return variants.attach_variant(
        version=version, name="smaller", files=[("model.onnx", "model", blob)], actor="tester"
    )


def upload_next(version: Version) -> Version:
    file = version.variants.get(name="fp32").files.get(role="model")
    with blobs.open_blob(file.blob_id) as stream:
        uploaded = uploads.upload_version(
            model_slug=version.model.slug,
            version="9.0.0",
            files=[("model.onnx", io.BytesIO(stream.read()), None)],
            actor="tester",
        )
    return versions.validate_version(version_id=uploaded.pk)


def correct(version: Version) -> Any:
    return contracts.correct_contract(
        version_id=upload_next(version).pk, given={"activation": "softmax"}, actor="tester"
    )


def begin(_: Version, data: bytes = b"bytes") -> BlobUpload:
    digest = hashlib.sha256(data).hexdigest()
    _, upload = blob_uploads.begin_upload(
        sha256=digest, size_bytes=len(data), actor="tester", may_reuse=False
    )
    assert upload is not None
    return upload


def pin(version: Version) -> Any:
    variant = version.variants.get(name="fp32")
    known = variant.baselines.first() if hasattr(variant, "baselines") else None
    from registry.models import Baseline

    known = known or Baseline.objects.filter(version=version).first()
    assert known is not None
    return baselines.pin_baseline(
        version=version, variant=variant, profile=known.profile, source="fleet", reason="calm",
        actor="tester",
    )  # fmt: skip


def split(version: Version) -> Any:
    dataset = version.model.datasets.first()
    assert dataset is not None
    return composition.split_dataset(
        dataset=dataset, share=0.5, names=("one", "two"), actor="tester"
    )


def compose(version: Version) -> Any:
    dataset = version.model.datasets.first()
    assert dataset is not None
    parts = [composition.Part(dataset.blob_id, "device-1")]
    return composition.compose_dataset(
        model_slug=version.model.slug, name="drawn", kind="calibration", parts=parts, rows=20,
        min_rows=10, seed=1, actor="tester",
    )  # fmt: skip


def register(version: Version) -> Any:
    x, y = made.make_samples(40, seed=5)
    return datasets.register_dataset(
        model_slug=version.model.slug, name="more", kind="evaluation",
        stream=io.BytesIO(made.pack_npz(x=x, y=y)), actor="tester",
    )  # fmt: skip


def make_alias(version: Version) -> Any:
    return aliases.move_alias(version=version, name="champion", actor="tester")


def publish_next(kind: str) -> Any:
    """The next root or targets, signed by the offline keys of the embedded server."""
    now = timezone.now()
    trust.newest_root(now=now)
    folder = Path(settings.AVIARY_KEYS_DIR) / "offline"
    key = SigningKey(read_key(folder / f"{kind}.key"))
    root = metadata.decode(bytes(trust_renewal.latest("root").body)).signed  # type: ignore[union-attr]
    if kind == "root":
        names = ("root", *metadata.ONLINE_ROLES, "targets")
        keys = {role: metadata.role_keys(root, role) for role in names}
        unsigned = metadata.make_root(root, keys=keys, thresholds={}, now=now)
        metadata.add_signature(unsigned, trust.sign_with(key))
        return trust.publish_root(data=metadata.encode(unsigned), actor="tester", now=now)
    targets = metadata.make_targets(2, delegated=trust.online_delegations(), now=now)
    metadata.add_signature(targets, trust.sign_with(key))
    return trust.publish_targets(data=metadata.encode(targets), actor="tester", now=now)


def sign_again(version: Version) -> Any:
    store = FileKeyStore(Path(settings.AVIARY_KEYS_DIR))
    store.prepare_rotation("manifest")
    store.finish_rotation("manifest", is_revoked=True)
    return trust.sign_again(actor="tester")


WRITES: dict[str, Callable[[Version], Any]] = {
    "registry.services.models.create_model": lambda v: registry_models.create_model(
        slug="another", actor="tester"
    ),
    "registry.services.audit.record_event": lambda v: audit_log.record_event(
        actor="tester", action="test.done", obj=v, summary="x"
    ),
    "registry.services.blobs.store_blob": lambda v: blobs.store_blob(
        stream=io.BytesIO(b"bytes"), max_bytes=10
    ),
    "registry.services.blobs.discard_blob": lambda v: blobs.discard_blob(
        sha256=v.variants.get(name="fp32").files.get(role="model").blob_id
    ),
    "registry.services.datasets.register_dataset": register,
    "registry.services.composition.split_dataset": split,
    "registry.services.composition.compose_dataset": compose,
    "registry.services.uploads.upload_version": upload_next,
    "registry.services.versions.validate_version": lambda v: versions.validate_version(
        version_id=v.pk
    ),
    "registry.services.versions.edit_version": lambda v: versions.edit_version(
        version_id=v.pk, actor="tester", notes="new", tags=["x"]
    ),
    "registry.services.audit_anchors.anchor_chain": lambda v: audit_anchors.anchor_chain(
        now=timezone.now()
    ),
    "registry.services.blob_uploads.begin_upload": begin,
    "registry.services.blob_uploads.drop_upload": lambda v: blob_uploads.drop_upload(begin(v)),
    "registry.services.blob_uploads.drop_abandoned": lambda v: blob_uploads.drop_abandoned(
        now=timezone.now() + timedelta(days=2)
    ),
    "registry.services.contracts.correct_contract": correct,
    "registry.services.aliases.move_alias": make_alias,
    "registry.services.aliases.protect_alias": lambda v: aliases.protect_alias(
        alias_id=make_alias(v).pk, is_protected=True, actor="tester", reason="holds"
    ),
    "registry.services.trust.newest_root": lambda v: trust.newest_root(now=timezone.now()),
    "registry.services.trust.publish_root": lambda v: publish_next("root"),
    "registry.services.trust.publish_targets": lambda v: publish_next("targets"),
    "registry.services.trust_renewal.renew_online": lambda v: trust_renewal.renew_online(
        now=timezone.now(), is_forced=bool(trust.newest_root(now=timezone.now()))
    ),
    "registry.services.trust.sign_again": sign_again,
    "registry.services.variants.attach_variant": attach,
    "registry.services.baselines.pin_baseline": pin,
    "registry.services.deltas.queue_deltas": lambda v: deltas.queue_deltas(
        [(str(v.variants.get(name="fp32").manifest_sha256), "0" * 64)]
    ),
    "registry.services.deltas.make_next_delta": lambda v: deltas.make_next_delta(
        now=timezone.now()
    ),
    "registry.services.deltas.prune_deltas": lambda v: deltas.prune_deltas(now=timezone.now()),
    "registry.services.garbage.sweep_garbage": lambda v: garbage.sweep_garbage(
        now=timezone.now(), seconds=5
    ),
    "registry.services.garbage.collect_garbage": lambda v: list(
        garbage.collect_garbage(now=timezone.now())
    ),
    "compression.services.jobs.submit_job": lambda v: jobs.submit_job(
        version=v,
        preset="dynamic-int8",
        recipe={},
        calibration_dataset=None,
        evaluation_dataset=v.model.datasets.get(kind="evaluation"),
        actor="tester",
    ),
    "compression.services.jobs.create_job": made.make_job,
    "compression.services.jobs.cancel_job": lambda v: jobs.cancel_job(
        job_id=made.make_job(v).pk, actor="tester"
    ),
    "compression.services.running.run_job": lambda v: run_job(job_id=made.make_job(v).pk),
    "compression.services.jobs.rerun_job": lambda v: jobs.rerun_job(
        original=run_job(job_id=made.make_job(v).pk), actor="tester"
    ),
    "compression.services.queue.requeue_lost_jobs": lambda v: queue.requeue_lost_jobs(),
    "compression.services.queue.take_unsent": lambda v: queue.take_unsent(),
    "compression.services.queue.take_oldest": lambda v: queue.take_oldest(),
    "compression.services.queue.mark_sent": lambda v: queue.mark_sent([made.make_job(v).pk]),
    "compression.services.queue.mark_unsent": lambda v: queue.mark_unsent(made.make_job(v).pk),
    "compression.services.queue.clear_abandoned_scratch": lambda v: queue.clear_abandoned_scratch(),
}


def public_functions(package: Any) -> set[str]:
    """Every public function of the package's modules, by its full name."""
    found = set()
    for entry in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{entry.name}")
        for name, function in inspect.getmembers(module, callable):
            is_own = getattr(function, "__module__", "") == module.__name__
            if is_own and not name.startswith("_") and not inspect.isclass(function):
                found.add(f"{module.__name__}.{name}")
    return found


def test_every_service_of_registry_and_compression_has_its_place_in_these_tables() -> None:
    named = set(WRITES)
    for table in (READS, INNER, DECISIONS):
        named |= {f"{module}.{name}" for module, names in table.items() for name in names}
    assert public_functions(registry.services) | public_functions(compression.services) == named


def assignments() -> dict[str, list[str]]:
    """Device to everything about what it is to run."""
    return {
        device.device_id: [repr(item) for item in desired_assignments(device)]
        for device in Device.objects.order_by("pk")
    }


@pytest.fixture
def deployed(settings: Any, tmp_path: Path) -> Version:
    """A version with data sets that five devices run."""
    settings.AVIARY_HOME = tmp_path
    settings.AVIARY_KEYS_DIR = tmp_path / "keys"
    version: Version = versions.transition_version(
        version_id=made.make_version().pk, to="approved", actor="tester", reason="a test"
    )
    make_deployment(stable_version=version)
    for _ in range(5):
        make_device()
    return version


@pytest.mark.parametrize("name", WRITES)
def test_nothing_that_the_registry_or_compression_writes_moves_a_device(
    deployed: Version, name: str
) -> None:
    before = assignments()
    counter = Plan.objects.get(model=deployed.model).counter
    assert all(before.values())
    WRITES[name](deployed)
    assert assignments() == before
    refresh_all_plans()
    tick_rollouts()
    assert assignments() == before
    assert Plan.objects.get(model=deployed.model).counter == counter


def test_a_new_upload_beside_the_deployed_version_moves_nobody(deployed: Version) -> None:
    before = assignments()
    version = upload_next(deployed)
    versions.transition_version(version_id=version.pk, to="approved", actor="tester", reason="x")
    refresh_all_plans()
    assert assignments() == before


def test_a_device_polls_the_same_release_after_a_smaller_variant_was_attached() -> None:
    deployment = make_deployment()
    device, slug = make_client(), deployment.model.slug
    first = device.install(slug)
    version = deployment.stable_version
    assert version is not None
    blob = blobs.store_blob(stream=io.BytesIO(make_onnx(scale=3)), max_bytes=10**6)
    variants.attach_variant(
        version=version, name="int8", files=[("model.onnx", "model", blob.sha256)], actor="tester"
    )
    tick_rollouts()
    assert device.poll(slug).status_code == 304
    device.etag = ""
    assert device.poll(slug).json()["variant"] == first["variant"]
    assert [v.name for v in Deployment.objects.get().variants.all()] == ["fp32"]
