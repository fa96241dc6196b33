"""Settings of an agent: a frozen dataclass per section, read from TOML, units in the names."""

from edge_agent.config.checks import check_inference
from edge_agent.config.reading import load_config, parse_config
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
from edge_agent.config.settings import Config

__all__ = [
    "AdaptiveConfig",
    "Config",
    "DriftConfig",
    "InferenceConfig",
    "InstallConfig",
    "MonitorConfig",
    "NetworkConfig",
    "SamplingConfig",
    "SandboxConfig",
    "ServeConfig",
    "SourceConfig",
    "SpoolConfig",
    "check_inference",
    "load_config",
    "parse_config",
]
