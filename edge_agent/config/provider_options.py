"""The options of each execution provider: what may be set, in which range, and what is set here.

Names are those of ONNX Runtime's documentation of each provider. Options that hand over addresses
of this process's memory are left out: no settings file can know one. The runtime itself answers an
unknown option by running on the CPU, so it is refused here, where the settings are read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.exceptions import ConfigurationError

Value = str | int | bool | float
GIB = 1 << 30


@dataclass(frozen=True)
class Flag:
    """On or off, in the words that this option takes."""

    on: str = "1"
    off: str = "0"

    def encode(self, value: Value) -> str:
        words = {"1": self.on, "true": self.on, "0": self.off, "false": self.off}
        text = words.get(str(value).lower())
        if text is None:
            raise ValueError("true or false")
        return text


@dataclass(frozen=True)
class Whole:
    lowest: int = 0
    highest: int = 2**63 - 1

    def encode(self, value: Value) -> str:
        expected = f"a whole number from {self.lowest} to {self.highest}"
        if isinstance(value, bool) or not re.fullmatch(r"-?\d{1,20}", str(value)):
            raise ValueError(expected)
        if not self.lowest <= int(value) <= self.highest:
            raise ValueError(expected)
        return str(int(value))


@dataclass(frozen=True)
class OneOf:
    words: tuple[str, ...]

    def encode(self, value: Value) -> str:
        if value not in self.words:
            raise ValueError(f"one of {', '.join(self.words)}")
        return str(value)


@dataclass(frozen=True)
class Text:
    pattern: str = r"[^\0]{1,4096}"
    meaning: str = "text"

    def encode(self, value: Value) -> str:
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise ValueError(self.meaning)
        return value


Kind = Flag | Whole | OneOf | Text
DEVICE = Whole(0, 255)
WORD_FLAG = Flag("true", "false")
OPENVINO_DEVICE = r"(CPU|GPU|NPU)(\.\d+)?"

CUDA: dict[str, Kind] = {
    "device_id": DEVICE,
    "gpu_mem_limit": Whole(1 << 20),
    "arena_extend_strategy": OneOf(("kNextPowerOfTwo", "kSameAsRequested")),
    "cudnn_conv_algo_search": OneOf(("EXHAUSTIVE", "HEURISTIC", "DEFAULT")),
    "cudnn_conv_use_max_workspace": Flag(),
    "cudnn_conv1d_pad_to_nc1d": Flag(),
    "do_copy_in_default_stream": Flag(),
    "enable_cuda_graph": Flag(),
    "enable_skip_layer_norm_strict_mode": Flag(),
    "fuse_conv_bias": Flag(),
    "prefer_nhwc": Flag(),
    "sdpa_kernel": Whole(0, 1024),
    "tunable_op_enable": Flag(),
    "tunable_op_max_tuning_duration_ms": Whole(0, 600_000),
    "tunable_op_tuning_enable": Flag(),
    "use_ep_level_unified_stream": Flag(),
    "use_tf32": Flag(),
}
TENSORRT: dict[str, Kind] = {
    "device_id": DEVICE,
    "trt_auxiliary_streams": Whole(-1, 64),
    "trt_bf16_enable": Flag(),
    "trt_build_heuristics_enable": Flag(),
    "trt_builder_optimization_level": Whole(0, 5),
    "trt_context_memory_sharing_enable": Flag(),
    "trt_cuda_graph_enable": Flag(),
    "trt_detailed_build_log": Flag(),
    "trt_dla_core": Whole(0, 16),
    "trt_dla_enable": Flag(),
    "trt_dump_ep_context_model": Flag(),
    "trt_dump_subgraphs": Flag(),
    "trt_engine_cache_enable": Flag(),
    "trt_engine_cache_path": Text(),
    "trt_engine_cache_prefix": Text(r"[\w.-]{1,128}", "letters, digits, dots and dashes"),
    "trt_engine_decryption_enable": Flag(),
    "trt_engine_decryption_lib_path": Text(),
    "trt_engine_hw_compatible": Flag(),
    "trt_ep_context_embed_mode": Whole(0, 1),
    "trt_ep_context_file_path": Text(),
    "trt_extra_plugin_lib_paths": Text(),
    "trt_force_sequential_engine_build": Flag(),
    "trt_force_timing_cache": Flag(),
    "trt_fp16_enable": Flag(),
    "trt_int8_calibration_table_name": Text(),
    "trt_int8_enable": Flag(),
    "trt_int8_use_native_calibration_table": Flag(),
    "trt_layer_norm_fp32_fallback": Flag(),
    "trt_load_user_initializer": Flag(),
    "trt_max_partition_iterations": Whole(1, 1_000_000),
    "trt_max_workspace_size": Whole(1 << 20),
    "trt_min_subgraph_size": Whole(1, 1_000_000),
    "trt_onnx_model_folder_path": Text(),
    "trt_op_types_to_exclude": Text(),
    "trt_preview_features": Text(),
    "trt_profile_max_shapes": Text(),
    "trt_profile_min_shapes": Text(),
    "trt_profile_opt_shapes": Text(),
    "trt_sparsity_enable": Flag(),
    "trt_tactic_sources": Text(),
    "trt_timing_cache_enable": Flag(),
    "trt_timing_cache_path": Text(),
    "trt_weight_stripped_engine_enable": Flag(),
}
OPENVINO: dict[str, Kind] = {
    "device_type": Text(
        rf"{OPENVINO_DEVICE}|(AUTO|HETERO|MULTI):{OPENVINO_DEVICE}(,{OPENVINO_DEVICE})*",
        "CPU, GPU, NPU, GPU.1, AUTO:GPU,CPU, HETERO:NPU,CPU and the like",
    ),
    "device_id": Text(),
    "device_luid": Text(),
    "precision": OneOf(("FP32", "FP16", "ACCURACY")),
    "num_of_threads": Whole(1, 1024),
    "num_streams": Whole(1, 256),
    "cache_dir": Text(),
    "load_config": Text(),
    "model_priority": OneOf(("LOW", "MEDIUM", "HIGH", "DEFAULT")),
    "disable_dynamic_shapes": WORD_FLAG,
    "enable_causallm": WORD_FLAG,
    "enable_opencl_throttling": WORD_FLAG,
    "enable_qdq_optimizer": WORD_FLAG,
    "layout": Text(),
    "reshape_input": Text(),
}
COREML: dict[str, Kind] = {
    "ModelFormat": OneOf(("MLProgram", "NeuralNetwork")),
    "MLComputeUnits": OneOf(("ALL", "CPUOnly", "CPUAndGPU", "CPUAndNeuralEngine")),
    "RequireStaticInputShapes": Flag(),
    "EnableOnSubgraphs": Flag(),
    "SpecializationStrategy": OneOf(("Default", "FastPrediction")),
    "ProfileComputePlan": Flag(),
    "AllowLowPrecisionAccumulationOnGPU": Flag(),
    "ModelCacheDirectory": Text(),
}
DML: dict[str, Kind] = {
    "device_id": DEVICE,
    "performance_preference": OneOf(("default", "high_performance", "minimum_power")),
    "device_filter": OneOf(("any", "gpu", "npu")),
    "disable_metacommands": WORD_FLAG,
    "enable_graph_capture": WORD_FLAG,
    "enable_graph_serialization": WORD_FLAG,
}


@dataclass(frozen=True)
class ExecutionProvider:
    """Everything the agent knows of one provider; a new one is a row of PROVIDERS."""

    name: str
    """What the settings call it."""
    runtime_name: str
    """What ONNX Runtime calls it."""
    options: dict[str, Kind] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    cache_paths: tuple[str, ...] = ()
    """Options that take a folder for what the provider compiles."""
    without_cache: dict[str, str] = field(default_factory=dict)
    """Options where there is no such folder and none was named."""
    threads_option: str = ""
    """Takes the number of intra-op threads, where it runs on the processor."""
    first_load_factor: float = 1.0
    """How much longer a first load may take, which compiles."""
    needs_nvidia_libraries: bool = False
    has_memory_pattern: bool = True


PROVIDERS: dict[str, ExecutionProvider] = {
    row.name: row
    for row in (
        ExecutionProvider("cpu", "CPUExecutionProvider"),
        ExecutionProvider(
            "cuda",
            "CUDAExecutionProvider",
            options=CUDA,
            defaults={
                "device_id": "0",
                # A board's processor and GPU share their memory: no more than what the model asks
                # for, and never all of it.
                "arena_extend_strategy": "kSameAsRequested",
                "gpu_mem_limit": str(2 * GIB),
                # EXHAUSTIVE tries every algorithm at each new shape: seconds on a small GPU.
                "cudnn_conv_algo_search": "HEURISTIC",
                "do_copy_in_default_stream": "1",
            },
            needs_nvidia_libraries=True,
        ),
        ExecutionProvider(
            "tensorrt",
            "TensorrtExecutionProvider",
            options=TENSORRT,
            defaults={
                "device_id": "0",
                "trt_engine_cache_enable": "1",
                "trt_timing_cache_enable": "1",
                "trt_max_workspace_size": str(GIB),
                # Half precision changes answers: whoever wants it says so, and the golden vectors
                # judge it.
                "trt_fp16_enable": "0",
            },
            cache_paths=("trt_engine_cache_path", "trt_timing_cache_path"),
            # Without a path the runtime would write engines into the working directory.
            without_cache={"trt_engine_cache_enable": "0", "trt_timing_cache_enable": "0"},
            # It builds an engine for minutes.
            first_load_factor=5.0,
            needs_nvidia_libraries=True,
        ),
        ExecutionProvider(
            "openvino",
            "OpenVINOExecutionProvider",
            options=OPENVINO,
            defaults={"device_type": "CPU"},
            cache_paths=("cache_dir",),
            threads_option="num_of_threads",
        ),
        ExecutionProvider(
            "nnapi",
            "NnapiExecutionProvider",
            options={"partitioning_stop_ops": Text(r"[\w,]{1,4096}", "operators joined by commas")},
        ),
        ExecutionProvider(
            "coreml",
            "CoreMLExecutionProvider",
            options=COREML,
            defaults={"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"},
            cache_paths=("ModelCacheDirectory",),
        ),
        ExecutionProvider(
            "dml",
            "DmlExecutionProvider",
            options=DML,
            defaults={"device_id": "0", "performance_preference": "default"},
            # Its page of the runtime's documentation.
            has_memory_pattern=False,
        ),
        ExecutionProvider("rockchip", "RknpuExecutionProvider"),
    )
}
OPTIONS = {name: row.options for name, row in PROVIDERS.items()}
DEFAULTS = {name: row.defaults for name, row in PROVIDERS.items() if row.defaults}


def encode_options(provider: str, options: Mapping[str, Value]) -> dict[str, str]:
    """`options` of `provider` in the runtime's own words.

    Raises:
        ConfigurationError: the provider or an option is unknown, or a value out of its range.
    """
    known = OPTIONS.get(provider)
    if known is None:
        raise ConfigurationError(f"unknown provider {provider}; known are {sorted(OPTIONS)}")
    encoded = {}
    for name, value in options.items():
        kind = known.get(name)
        if kind is None:
            raise ConfigurationError(
                f"{provider} has no option {name}; it has {sorted(known) or 'none'}"
            )
        try:
            encoded[name] = kind.encode(value)
        except ValueError as error:
            raise ConfigurationError(
                f"{provider} {name}: expected {error}, got {value!r}"
            ) from error
    return encoded


def complete_options(
    provider: str, options: Mapping[str, str], *, threads: int, cache: Path | None
) -> dict[str, str]:
    """`options` over the defaults of `provider`.

    Args:
        threads: intra-op threads, for providers that run on the processor.
        cache: a folder of this release's own for what the provider compiles, or None for none.
    """
    row = PROVIDERS[provider]
    found = dict(row.defaults)
    if row.threads_option:
        found[row.threads_option] = str(threads)
    if cache is not None:
        found |= dict.fromkeys(row.cache_paths, str(cache))
    elif not any(name in options for name in row.cache_paths[:1]):
        found |= row.without_cache
    return {**found, **options}
