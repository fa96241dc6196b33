"""Other tools doing the same work on the same files, each as its own documentation says."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quant_pre_process,
    quantize_dynamic,
    quantize_static,
)

from benchmarks.compress import networks
from benchmarks.compress.subjects import Subject
from benchmarks.compress.train_models import export
from compression.measure.samples import Samples

CALIBRATION_ROWS = 1024
PRUNED_SHARE = 0.4
TORCH_ALIGNMENT = 8
NETWORKS = {
    "digits-mobilenet": (lambda: networks.digit_mobilenet(folded=True), (1, 32, 32)),
    "digits-resnet": (lambda: networks.digit_resnet(folded=True), (1, 32, 32)),
    "mobilenetv2-224": (networks.mobilenet_224, (3, 224, 224)),
    "resnet50-224": (networks.resnet_50, (3, 224, 224)),
}


@dataclass(frozen=True)
class Peer:
    """A tool at one task: writes its variant of a subject to a path."""

    name: str
    run: Callable[[Subject, Samples, Path], None]


class RowReader(CalibrationDataReader):
    """One row at a time, as the quantizer's examples do."""

    def __init__(self, samples: Samples) -> None:
        self._batches = samples.head(CALIBRATION_ROWS).batches(1)

    def get_next(self) -> dict[str, np.ndarray] | None:
        feed, _ = next(self._batches, (None, 0))
        return feed


def quantize_dynamic_plainly(subject: Subject, samples: Samples, path: Path) -> None:
    """onnxruntime.quantization: preprocessing, then `quantize_dynamic` with its defaults."""
    quantize_dynamic(str(_preprocess(subject, path)), str(path))


def quantize_static_plainly(subject: Subject, samples: Samples, path: Path) -> None:
    """onnxruntime.quantization: preprocessing, then `quantize_static` with its defaults."""
    quantize_static(str(_preprocess(subject, path)), str(path), RowReader(samples))


def quantize_with_nncf(subject: Subject, samples: Samples, path: Path) -> None:
    """NNCF post-training quantization of the ONNX file with its defaults (300 rows)."""
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    dataset = nncf.Dataset([feed for feed, _ in samples.head(CALIBRATION_ROWS).batches(1)])
    onnx.save(nncf.quantize(onnx.load(str(subject.model)), dataset), str(path))


def prune_with_torch_pruning(subject: Subject, samples: Samples, path: Path) -> None:
    """Torch-Pruning's group magnitude pruner at 40 %, the classifier kept, then exported."""
    import torch_pruning

    build, shape = NETWORKS[subject.name]
    network = load_network(build(), subject.model).eval()
    example = torch.zeros(2, *shape)
    pruner = torch_pruning.pruner.MagnitudePruner(
        network,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=PRUNED_SHARE,
        ignored_layers=[network.classifier],
        round_to=TORCH_ALIGNMENT,
    )
    pruner.step()
    export(network, path, shape)


def prune_and_quantize(subject: Subject, samples: Samples, path: Path) -> None:
    """Torch-Pruning, then onnxruntime's static quantization per channel as U8/S8."""
    pruned = path.with_suffix(".pruned.onnx")
    prune_with_torch_pruning(subject, samples, pruned)
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(pruned), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(path),
        RowReader(samples),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def load_network(network: torch.nn.Module, path: Path) -> torch.nn.Module:
    """The network with the weights of an exported file, which have kept their names."""
    tensors = {item.name: item for item in onnx.load(str(path)).graph.initializer}
    state = {
        name: torch.from_numpy(numpy_helper.to_array(tensors[name]).copy())
        for name in network.state_dict()
    }
    network.load_state_dict(state)
    return network


def _preprocess(subject: Subject, path: Path) -> Path:
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(subject.model), str(prepared), skip_symbolic_shape=True)
    return prepared


PEERS = (
    Peer("onnxruntime-dynamic", quantize_dynamic_plainly),
    Peer("onnxruntime-static", quantize_static_plainly),
    Peer("nncf-static", quantize_with_nncf),
    Peer("torch-pruning40", prune_with_torch_pruning),
    Peer("torch-pruning40-int8", prune_and_quantize),
)
