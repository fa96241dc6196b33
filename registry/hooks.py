"""Where apps above the registry say what a change here means to them.

Each app registers its functions in its `AppConfig.ready`. Functions of a change are called in the
transaction of the change, before its audit event, and may refuse it by raising an `AviaryError`;
so whatever they write is committed with the change or not at all.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from registry.device_results import DeviceResult
from registry.models import Alias, Variant, Version


@dataclass(frozen=True)
class Change:
    """Who made a change and why."""

    actor: str
    reason: str


@dataclass(frozen=True)
class Hooks:
    """One app's answers; each may do nothing.

    Attributes:
        version_moved: called with the version in its new state and the state before.
        alias_moved: called with the alias as it names its new version.
        foresee_version: what moving the version to a state would do, in sentences.
        foresee_alias: what moving the alias would do, in sentences.
        needed_to_move: the permissions that whoever moves the alias needs beside changing it.
        notices: what is worth knowing about a version where it is shown, in sentences.
        device_results: variant key to what self-tests on devices measured, by class of hardware.
        marks: version key to a warning to show wherever the version can be chosen.
    """

    version_moved: Callable[[Version, str, Change], None] = lambda version, before, change: None
    alias_moved: Callable[[Alias, Change], None] = lambda alias, change: None
    foresee_version: Callable[[Version, str], list[str]] = lambda version, to: []
    foresee_alias: Callable[[Alias], list[str]] = lambda alias: []
    needed_to_move: Callable[[Alias], set[str]] = lambda alias: set()
    notices: Callable[[Version], list[str]] = lambda version: []
    marks: Callable[[Iterable[int]], dict[int, str]] = lambda versions: {}
    device_results: Callable[[Iterable[Variant]], dict[int, list[DeviceResult]]] = lambda of: {}


_HOOKS: list[Hooks] = []


def register_hooks(hooks: Hooks) -> None:
    """Has the app's functions called from now on."""
    _HOOKS.append(hooks)


def version_moved(version: Version, before: str, change: Change) -> None:
    """Tells every app that the version is in another state."""
    for hooks in _HOOKS:
        hooks.version_moved(version, before, change)


def alias_moved(alias: Alias, change: Change) -> None:
    """Tells every app that the alias names another version."""
    for hooks in _HOOKS:
        hooks.alias_moved(alias, change)


def foresee_version(version: Version, to: str) -> list[str]:
    """What every app says would follow from moving the version."""
    return [line for hooks in _HOOKS for line in hooks.foresee_version(version, to)]


def foresee_alias(alias: Alias) -> list[str]:
    """What every app says would follow from moving the alias."""
    return [line for hooks in _HOOKS for line in hooks.foresee_alias(alias)]


def needed_to_move(alias: Alias) -> set[str]:
    """What every app says that whoever moves the alias needs beside changing it."""
    return {name for hooks in _HOOKS for name in hooks.needed_to_move(alias)}


def notices(version: Version) -> list[str]:
    """What every app says about the version."""
    return [line for hooks in _HOOKS for line in hooks.notices(version)]


def marks(version_ids: Iterable[int]) -> dict[int, str]:
    """Version key to what every app warns of."""
    ids = list(version_ids)
    found: dict[int, str] = {}
    for hooks in _HOOKS:
        for version, words in hooks.marks(ids).items():
            found[version] = f"{found[version]}; {words}" if version in found else words
    return found


def device_results(variants: Iterable[Variant]) -> dict[int, list[DeviceResult]]:
    """Variant key to what devices of each class measured of it, as every app knows it."""
    asked = list(variants)
    found: dict[int, list[DeviceResult]] = {}
    for hooks in _HOOKS if asked else ():
        for variant, results in hooks.device_results(asked).items():
            found.setdefault(variant, []).extend(results)
    return found
