"""All settings of one agent."""

from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.config.sections import (
    AdaptiveConfig,
    DriftConfig,
    InferenceConfig,
    InstallConfig,
    MonitorConfig,
    NetworkConfig,
    SamplingConfig,
    SandboxConfig,
    ServeConfig,
    SourceConfig,
    SpoolConfig,
)
from edge_agent.exceptions import ConfigurationError


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
    trust_root_file: str = ""
    """The server's root of trust, shipped with the device: then enrolment cannot bring another."""
    log_level: str = "INFO"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    install: InstallConfig = field(default_factory=InstallConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    sources: tuple[SourceConfig, ...] = ()
    """More sources, one `[[sources]]` table each; every one has a thread of its own."""
    serve: ServeConfig = field(default_factory=ServeConfig)
    adaptive: AdaptiveConfig = field(default_factory=AdaptiveConfig)
    spool: SpoolConfig = field(default_factory=SpoolConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)

    def all_sources(self) -> tuple[SourceConfig, ...]:
        """The sources that have a path."""
        return tuple(source for source in (self.source, *self.sources) if source.path)

    def read_trust_root(self) -> bytes:
        """The root of trust that `trust_root_file` names.

        Raises:
            ConfigurationError: the file cannot be read.
        """
        try:
            return Path(self.trust_root_file).read_bytes()
        except OSError as error:
            raise ConfigurationError(f"[agent] trust_root_file: {error}") from error

    def read_join_token(self) -> str:
        """The join token: from the file when one is named, else from the settings.

        Raises:
            ConfigurationError: the file cannot be read.
        """
        if not self.join_token_file:
            return self.join_token
        try:
            return Path(self.join_token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"[agent] join_token_file: {error}") from error
