"""What the ways of INT8 share: number formats by instruction set, the call of the quantizer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from compression.engine.graph.biases import flatten_biases
from compression.engine.graph.names import name_nodes, reserve_names
from compression.engine.passes.calibration import METHODS, Ranges
from compression.engine.passes.finish import finish_file
from compression.engine.passes.paired_range import list_overrides

TYPES = {
    "quint8": QuantType.QUInt8,
    "qint8": QuantType.QInt8,
    "quint16": QuantType.QUInt16,
    "qint16": QuantType.QInt16,
}
_FORMATS = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}


@dataclass(frozen=True)
class IsaPreset:
    """The number formats that an instruction set runs fastest, and how the graph says them.

    `reduce_range` keeps S8 weights so small that no pair of their products with U8 exceeds 16 bits.
    """

    activation: str
    weight: str
    format: str = "qoperator"
    is_symmetric: bool = False
    reduce_range: bool = False
    first_layer: str = "int8"


# x86 with AVX2 or AVX-512 and without VNNI adds two products of U8*S8 in 16 bits, which saturate;
# weights of a reduced range cannot, see `paired_range`. Such a file is as small and as fast, and
# right on every processor, so it is the default. Symmetric S8/S8 measured 2.5 to 3 times slower
# than U8/S8 on x86 with VNNI; NPUs want it. Integer operators make a smaller file than pairs of
# quantizing nodes (3.6 against 3.9 MB for MobileNetV2), as fast on CPUs; compilers for NPUs want
# the pairs. INT8 convolutions gather each position of the filter by itself, which for 3x3 of one
# or three channels takes longer than computing in FP32.
ISA_PRESETS = {
    "portable": IsaPreset("quint8", "qint8", reduce_range=True, first_layer="fp32"),
    "x86-vnni": IsaPreset("quint8", "qint8", first_layer="fp32"),
    "x86-avx2": IsaPreset("quint8", "qint8", reduce_range=True, first_layer="fp32"),
    "arm64": IsaPreset("qint8", "qint8"),
    "npu": IsaPreset("qint8", "qint8", "qdq", is_symmetric=True),
}


def make_quantizable(source: Path, destination: Path) -> Path:
    """A copy, at `destination`, with biases and names as ONNX Runtime's quantizer needs them."""
    model = onnx.load(str(source))
    name_nodes(model)
    flatten_biases(model.graph)
    onnx.save(reserve_names(model), str(destination))
    return destination


def static_settings(parameters: dict[str, Any], isa: str) -> IsaPreset:
    """The ISA's number formats with what the recipe sets itself laid over them."""
    preset = ISA_PRESETS[isa]
    symmetric = parameters.get("symmetric")
    activation = parameters.get("activation") or preset.activation
    # No integer operator takes 16 bits.
    default_format = "qdq" if activation.endswith("16") else preset.format
    return IsaPreset(
        activation,
        parameters.get("weight") or preset.weight,
        parameters.get("format") or default_format,
        preset.is_symmetric if symmetric is None else symmetric,
        preset.reduce_range,
        parameters.get("first_layer") or preset.first_layer,
    )


def run_static(
    source: Path,
    destination: Path,
    ranges: Ranges,
    parameters: dict[str, Any],
    settings: IsaPreset,
    *,
    excluded: list[str] | None = None,
    only: list[str] | None = None,
    is_final: bool = True,
) -> None:
    """One call of the quantizer on ranges that were collected before.

    Args:
        is_final: False keeps the names of tensors, which the ranges know them by.
    """
    extra: dict[str, Any] = {
        "ActivationSymmetric": settings.is_symmetric,
        "WeightSymmetric": True,
    }
    # No kernel saturates with weights of U8, whatever their range.
    reduce_range = settings.reduce_range and settings.weight == "qint8"
    if reduce_range:
        model = onnx.load(str(source))
        is_per_channel = parameters.get("per_channel", True)
        extra["TensorQuantOverrides"] = list_overrides(model, is_per_channel=is_per_channel)
    quantize_static(
        str(source),
        str(destination),
        None,
        quant_format=_FORMATS[settings.format],
        activation_type=TYPES[settings.activation],
        weight_type=TYPES[settings.weight],
        per_channel=parameters.get("per_channel", True),
        reduce_range=reduce_range,
        calibrate_method=METHODS[ranges.method],
        nodes_to_exclude=excluded or [],
        nodes_to_quantize=only,
        calibration_cache_path=str(ranges.path),
        extra_options=extra,
    )
    if is_final:
        finish_file(destination)
