"""What the values of a section must be, beyond their types; paths are placed here too."""

import dataclasses
import ipaddress
from pathlib import Path

from edge_agent.config.provider_options import OPTIONS, encode_options
from edge_agent.config.sections import AdaptiveConfig, InferenceConfig, ServeConfig, SourceConfig
from edge_agent.exceptions import ConfigurationError


def check_adaptive(adaptive: AdaptiveConfig) -> None:
    """Raises ConfigurationError unless both models are named, or neither."""
    if bool(adaptive.large) != bool(adaptive.small) or adaptive.large == adaptive.small != "":
        raise ConfigurationError("[adaptive] large and small: expected two different models")


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
