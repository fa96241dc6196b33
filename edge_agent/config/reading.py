"""Reads the settings from TOML: every section, every key, or an error that names it."""

import dataclasses
import os
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from edge_agent.config.checks import check_adaptive, check_inference, place_serve, place_source
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
from edge_agent.exceptions import ConfigurationError

T = TypeVar("T")
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

RENAMED = {
    ("spool", "aside_max_rows"): "dead_letters_max_rows",
    ("drift", "half_life_records"): "look_records",
}
"""Keys by which older agents called a setting; files with them still load."""


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
    if isinstance(agent.get("join_token_file"), str) and agent["join_token_file"]:
        agent["join_token_file"] = str(base / agent["join_token_file"])
    if isinstance(agent.get("trust_root_file"), str) and agent["trust_root_file"]:
        agent["trust_root_file"] = str(base / agent["trust_root_file"])
    sections: dict[str, Any] = {
        name: build(kind, document.get(name, {}), name) for name, kind in SECTIONS.items()
    }
    rows = document.get("sources", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigurationError("[[sources]]: expected an array of tables")
    check_adaptive(sections["adaptive"])
    sections["inference"] = check_inference(sections["inference"])
    network = sections["network"]
    if network.ca_file:
        sections["network"] = dataclasses.replace(network, ca_file=str(base / network.ca_file))
    sections["source"] = place_source(sections["source"], base)
    sections["serve"] = place_serve(sections["serve"], base)
    more = tuple(place_source(build(SourceConfig, row, "sources"), base) for row in rows)
    if not all(source.path for source in more):
        raise ConfigurationError("[[sources]] path is missing")
    config = build(Config, {**agent, **sections}, "agent")
    return dataclasses.replace(config, sources=more)


def build(kind: type[T], values: dict[str, Any], section: str) -> T:
    values = {RENAMED.get((section, name), name): value for name, value in values.items()}
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
