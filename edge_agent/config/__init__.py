"""Settings of an agent: a frozen dataclass per section, read from TOML, units in the names."""

import dataclasses
import ipaddress
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from edge_agent.config.provider_options import OPTIONS, encode_options
from edge_agent.exceptions import ConfigurationError
from edge_agent.serving.adaptive import AdaptiveConfig

T = TypeVar("T")


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
    disk_reserve_bytes: int = 64 << 20
    selftest_timeout_s: float = 120.0
    selftest_memory_mb: int = 0
    """Address-space limit of the self-test's process; 0 sets none."""
    watch_seconds: float = 60.0
    watch_min_inferences: int = 20
    watch_max_error_rate: float = 0.2
    watch_max_latency_ratio: float = 5.0
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
    half_life_records: int = 200
    min_records: int = 100
    """Of the running release, before anything is judged."""
    check_interval_s: float = 10.0
    """Between two looks, which also need 20 new records."""
    consecutive_checks: int = 3
    """Looks in a row past a threshold before it fires, and below the lower one before it is
    resolved."""
    quiet_s: float = 3600.0
    """After an event; what fires again before then is told by the reports alone."""
    fire_psi: float = 0.5
    clear_psi: float = 0.25
    fire_latency_ratio: float = 2.0
    """Recent mean latency over that of the first `min_records`."""
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


@dataclass(frozen=True)
class Config:
    device_id: str
    server_url: str
    home: Path
    models: tuple[str, ...] = ()
    """Slugs to poll one by one with an ETag; empty asks for every assignment at once."""
    attributes: dict[str, str] = field(default_factory=dict)
    join_token: str = ""
    join_token_file: str = ""
    trust_keyids: tuple[str, ...] = ()
    """When given, only these of the keys sent at enrolment are kept."""
    log_level: str = "INFO"
    network: NetworkConfig = NetworkConfig()
    install: InstallConfig = InstallConfig()
    inference: InferenceConfig = InferenceConfig()
    source: SourceConfig = SourceConfig()
    sources: tuple[SourceConfig, ...] = ()
    """More sources, one `[[sources]]` table each; every one has a thread of its own."""
    serve: ServeConfig = ServeConfig()
    adaptive: AdaptiveConfig = field(default_factory=AdaptiveConfig)
    spool: SpoolConfig = SpoolConfig()
    monitor: MonitorConfig = MonitorConfig()
    drift: DriftConfig = DriftConfig()
    sampling: SamplingConfig = SamplingConfig()
    sandbox: SandboxConfig = SandboxConfig()

    def all_sources(self) -> tuple[SourceConfig, ...]:
        """The sources that have a path."""
        return tuple(source for source in (self.source, *self.sources) if source.path)

    def read_join_token(self) -> str:
        """The join token: from the file when one is named, else from the settings."""
        if self.join_token_file:
            return Path(self.join_token_file).read_text().strip()
        return self.join_token


SECTIONS: dict[str, type] = {
    "network": NetworkConfig,
    "install": InstallConfig,
    "inference": InferenceConfig,
    "source": SourceConfig,
    "serve": ServeConfig,
    "adaptive": AdaptiveConfig,
    "spool": SpoolConfig,
    "monitor": MonitorConfig,
    "drift": DriftConfig,
    "sampling": SamplingConfig,
    "sandbox": SandboxConfig,
}


def load_config(path: str | os.PathLike[str]) -> Config:
    """The settings in the TOML file `path`; `AVIARY_JOIN_TOKEN` in the environment wins.

    Raises:
        ConfigurationError: the file is missing, is no TOML, or holds an unknown or ill-typed key.
    """
    try:
        with open(path, "rb") as stream:
            document = tomllib.load(stream)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    config = parse_config(document, base=Path(path).resolve().parent)
    token = os.environ.get("AVIARY_JOIN_TOKEN")
    return dataclasses.replace(config, join_token=token, join_token_file="") if token else config


def parse_config(document: dict[str, Any], *, base: Path) -> Config:
    """The settings of a parsed TOML document; relative paths are taken from `base`."""
    unknown = set(document) - set(SECTIONS) - {"agent", "sources"}
    if unknown:
        raise ConfigurationError(f"unknown sections: {sorted(unknown)}")
    agent = dict(document.get("agent", {}))
    for required in ("device_id", "server_url", "home"):
        if not agent.get(required):
            raise ConfigurationError(f"[agent] {required} is missing")
    agent["home"] = base / str(agent["home"])
    sections: dict[str, Any] = {
        name: build(kind, document.get(name, {}), name) for name, kind in SECTIONS.items()
    }
    rows = document.get("sources", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigurationError("[[sources]]: expected an array of tables")
    sections["inference"] = check_inference(sections["inference"])
    sections["source"] = place_source(sections["source"], base)
    sections["serve"] = place_serve(sections["serve"], base)
    more = tuple(place_source(build(SourceConfig, row, "sources"), base) for row in rows)
    if not all(source.path for source in more):
        raise ConfigurationError("[[sources]] path is missing")
    adaptive = sections["adaptive"]
    if bool(adaptive.large) != bool(adaptive.small) or adaptive.large == adaptive.small != "":
        raise ConfigurationError("[adaptive] large and small: expected two different models")
    config = build(Config, {**agent, **sections}, "agent")
    return dataclasses.replace(config, sources=more)


def check_inference(inference: InferenceConfig) -> InferenceConfig:
    """`inference` with the providers' options in the runtime's words.

    Raises:
        ConfigurationError: a provider or an option is unknown, or a value out of its range.
    """
    unknown = [name for name in inference.providers if name not in OPTIONS]
    if unknown or not inference.providers:
        raise ConfigurationError(
            f"[inference] providers: expected some of {sorted(OPTIONS)}, "
            f"got {list(inference.providers)}"
        )
    options = {}
    for provider, values in inference.provider_options.items():
        if not isinstance(values, dict):
            raise ConfigurationError(f"[inference.provider_options] {provider}: expected a table")
        options[provider] = encode_options(provider, values)
    if inference.intra_op_threads < 1 or inference.top_k < 1 or inference.latency_window < 1:
        raise ConfigurationError(
            "[inference] intra_op_threads, top_k and latency_window: expected 1 or more"
        )
    return dataclasses.replace(inference, provider_options=options)


def place_source(source: SourceConfig, base: Path) -> SourceConfig:
    if source.rate_per_s <= 0:
        raise ConfigurationError(f"[source] rate_per_s: expected above 0, got {source.rate_per_s}")
    return dataclasses.replace(source, path=str(base / source.path)) if source.path else source


def place_serve(serve: ServeConfig, base: Path) -> ServeConfig:
    """`serve` with its paths taken from `base`.

    Raises:
        ConfigurationError: a limit makes no sense, or the host is open to others without a token.
    """
    for name in ("threads", "max_body_bytes", "timeout_s"):
        if getattr(serve, name) <= 0:
            raise ConfigurationError(f"[serve] {name}: expected above 0")
    if serve.queue < 0 or not 0 <= serve.port <= 65535:
        raise ConfigurationError("[serve] expected queue from 0 and port from 0 to 65535")
    is_open_to_all = not serve.unix_socket and not serve.token_file and not is_loopback(serve.host)
    if serve.enabled and is_open_to_all:
        raise ConfigurationError(
            f"[serve] host {serve.host} is open to other machines: give a token_file"
        )
    return dataclasses.replace(
        serve,
        unix_socket=str(base / serve.unix_socket) if serve.unix_socket else "",
        token_file=str(base / serve.token_file) if serve.token_file else "",
    )


def is_loopback(host: str) -> bool:
    """True for addresses that only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def build(kind: type[T], values: dict[str, Any], section: str) -> T:
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = set(values) - set(fields)
    if unknown:
        raise ConfigurationError(f"[{section}] unknown keys: {sorted(unknown)}")
    clean = {}
    for name, value in values.items():
        default = fields[name].default
        if isinstance(value, list):
            value = tuple(str(item) for item in value)
        elif isinstance(default, float) and type(value) is int:
            value = float(value)
        if default is not dataclasses.MISSING and type(value) is not type(default):
            expected = type(default).__name__
            raise ConfigurationError(
                f"[{section}] {name}: expected {expected}, got {type(value).__name__}"
            )
        clean[name] = value
    return kind(**clean)
