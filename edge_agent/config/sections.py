"""The sections of the settings: a frozen dataclass each, with units in the names."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class NetworkConfig:
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0
    """The longest silence within an answer."""
    answer_deadline_s: float = 60.0
    """For the headers of any answer, and for the whole of one that is JSON."""
    answer_max_bytes: int = 1 << 20
    max_redirects: int = 3
    backoff_base_s: float = 1.0
    backoff_max_s: float = 300.0
    ca_file: str = ""
    """PEM bundle to trust in place of the system's; empty uses the system's."""


@dataclass(frozen=True)
class InstallConfig:
    max_tries: int = 3
    """Interrupted tries of one release before it is blocked."""
    download_attempts: int = 8
    download_min_bytes_per_s: float = 1024.0
    """A file that comes slower than this on the whole is given up, after `answer_deadline_s`."""
    download_max_overhead: float = 3.0
    """Bytes taken for one file may not pass this many times its size."""
    download_budget_sizes: float = 8.0
    """Bytes a release may take until it has to wait, in times its own size; kept over restarts."""
    download_budget_attempts: int = 64
    """Transfers of each of its files until then."""
    download_budget_refill_s: float = 604_800.0
    """In which all of that comes back, little by little, while the device is on."""
    disk_reserve_bytes: int = 64 << 20
    selftest_timeout_s: float = 120.0
    selftest_memory_mb: int = 0
    """Address-space limit of the self-test's process; 0 sets none."""
    watch_seconds: float = 60.0
    """A young release is watched at least so long."""
    watch_min_inferences: int = 30
    """Inputs of each release before anything is judged; the watch waits for them."""
    watch_max_seconds: float = 86_400.0
    """And at most so long, however few inputs come."""
    watch_max_error_rate: float = 0.2
    """Share of failures that is permitted where there is no release before to compare with."""
    watch_max_latency_ratio: float = 2.0
    """Times as long as the release before that an answer may take. A release that is meant to be
    slower, as a larger model is, needs more."""
    max_poll_s: float = 3600.0


@dataclass(frozen=True)
class InferenceConfig:
    providers: tuple[str, ...] = ("cpu",)
    """In order of preference: cpu, cuda, tensorrt, openvino, nnapi, coreml, dml, rockchip."""
    provider_options: dict[str, dict[str, str]] = field(default_factory=dict)
    """Per provider, by the runtime's names (`provider_options.py` lists them); checked on load."""
    strict: bool = False
    """Refuse to run when a requested provider is not the one that runs."""
    intra_op_threads: int = 1
    allow_spinning: bool = False
    cache_optimised_graph: bool = True
    top_k: int = 3
    cache_entries: int = 0
    """Answers kept by input digest; 0 turns the cache off."""
    cache_ttl_s: float = 60.0
    latency_window: int = 1024


@dataclass(frozen=True)
class SourceConfig:
    path: str = ""
    """An npz with array `x` of preprocessed inputs, batch axis first; re-read when it changes."""
    rate_per_s: float = 1.0
    loop: bool = True
    model: str = ""
    """Slug of the model to feed; empty takes the adaptive pair, else the only one."""


@dataclass(frozen=True)
class ServeConfig:
    """The local HTTP endpoint."""

    enabled: bool = False
    host: str = "127.0.0.1"
    """Beyond this machine only with a token."""
    port: int = 8780
    """0 takes a free one; `status --json` tells which."""
    unix_socket: str = ""
    """A path to listen on in place of host and port."""
    token_file: str = ""
    """Its content must come as `Authorization: Bearer`; empty asks for none."""
    max_body_bytes: int = 8 << 20
    threads: int = 4
    queue: int = 16
    """Connections that may wait for a thread; more are turned away with 503."""
    timeout_s: float = 10.0
    """For a request to arrive and an answer to leave, and for an idle connection."""


@dataclass(frozen=True)
class AdaptiveConfig:
    large: str = ""
    """Slug of the model to prefer; empty turns the switching off."""
    small: str = ""
    """Slug of the model that steps in."""
    name: str = "auto"
    """What requests and sources call the pair; a request that names no model gets it too."""
    latency_budget_ms: float = 50.0
    recover_ratio: float = 0.7
    """Back to the large model only below this part of the budget, or the two would alternate."""
    hold_inferences: int = 20
    """Inferences with one choice before another; again so that the two do not alternate."""
    retry_inferences: int = 1000
    """Inferences by the small model after which the large one is measured anew, so that one bad
    measurement does not last."""
    min_confidence: float = 0.6
    """A small model's answer below this is asked again of the large one."""
    smoothing: float = 0.1


@dataclass(frozen=True)
class SpoolConfig:
    flush_interval_s: float = 1.0
    flush_rows: int = 256
    commit_rows: int = 4096
    """Rows of one commit at most, when more than `flush_rows` have piled up."""
    upload_interval_s: float = 5.0
    batch_records: int = 500
    max_bytes: int = 64 << 20
    """Of the database and its log on the disk; past it the least important rows go."""
    queue_rows: int = 20_000
    unsure_below: float = 0.5
    """Answers of a lower confidence outlive ordinary ones, and go up before them."""
    suspect_failures: int = 5
    """In a row, before a batch is passed over and others are tried in its place."""
    suspect_span_s: float = 60.0
    """Between the first of these failures and the last, at least."""
    dead_letters_max_rows: int = 1000
    """Dead letters that are kept; a sixteenth of `max_bytes` holds for them too."""


@dataclass(frozen=True)
class MonitorConfig:
    telemetry_interval_s: float = 60.0
    sample_interval_s: float = 10.0
    max_cpu_percent: float = 95.0
    max_memory_percent: float = 90.0
    min_disk_free_mb: float = 64.0
    max_temperature_c: float = 85.0
    consecutive_samples: int = 3
    """Samples past a threshold before it fires, and within it before it is resolved."""
    resolve_margin: float = 0.1
    """Share of the threshold by which a value must be better than it to count as within."""
    quiet_s: float = 3600.0
    """After an event; what fires again before then is told by the reports alone."""


@dataclass(frozen=True)
class DriftConfig:
    enabled: bool = True
    look_records: int = 200
    """Independent records of a look; where records repeat each other it takes more."""
    min_records: int = 100
    """Independent records of the device's own past, before anything is judged."""
    check_interval_s: float = 10.0
    """Between two looks, at least."""
    consecutive_checks: int = 3
    """Looks in a row past a threshold before it fires, and below the lower one before it is
    resolved."""
    quiet_s: float = 3600.0
    """After an event; what fires again before then is told by the reports alone."""
    fire_psi: float = 0.5
    clear_psi: float = 0.25
    fire_latency_ratio: float = 2.0
    """Recent median latency over that of the device's own past."""
    fire_feature_shift: float = 1.0
    """Distance of a feature's recent mean, in standard deviations of the baseline."""


@dataclass(frozen=True)
class SamplingConfig:
    enabled: bool = False
    """Inputs may show people or places: off unless the device's owner says otherwise."""
    rate: float = 0.01
    """Share of the sure answers whose input is offered; unsure ones always are."""
    unsure_below: float = 0.6
    batch_rows: int = 256
    max_batch_bytes: int = 8 << 20
    interval_s: float = 600.0
    """Between two batches."""
    max_bytes: int = 16 << 20
    """On disk; past it the oldest batches go."""
    refused_wait_s: float = 3600.0
    """Without collecting, after the server has said that it may not."""


@dataclass(frozen=True)
class SandboxConfig:
    """Limits of a release's processor, a WebAssembly guest."""

    memory_max_bytes: int = 16 << 20
    table_max_elements: int = 4096
    stack_max_bytes: int = 256 << 10
    module_max_bytes: int = 1 << 20
    timeout_s: float = 1.0
    """For one call, the runtime's work in it included."""
    fuel: int = 0
    """Instructions of one call, the same on every machine; 0 leaves it to the time limit, which
    costs the guest less."""
