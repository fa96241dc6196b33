"""Which of the project's source files a function depends on, and their digest. Pure.

A cached result stands for the code that made it. Nobody has to remember to raise a number: imports
are followed from file to file, those inside functions and those named as `module:function` too.
"""

import ast
import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import compression
from compression.recipe.declaration import Pass
from compression.recipe.passes import PASSES

ROOT = Path(compression.__file__).resolve().parent.parent
_NAMED = re.compile(r"compression(\.\w+)+(:\w+)?")


def list_sources(declared: Pass) -> frozenset[Path]:
    """The files that decide what a pass writes: its code, and all that this imports.

    A pass that reads `passes` depends on those of every other pass as well. What a declaration says
    besides, its parameters and what it reads, stands in the key by itself.
    """
    if "passes" in declared.reads:
        return frozenset().union(*(_list_own_sources(item) for item in PASSES.values()))
    return _list_own_sources(declared)


@cache
def list_imported(start: Path) -> frozenset[Path]:
    """A file, and the project's files that it imports, directly or through others."""
    found: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imports_of(path)
    return frozenset(found)


def find_module(name: str) -> Path | None:
    """The file of a module of this project; None for any other."""
    path = ROOT.joinpath(*name.split("."))
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def digest_sources(paths: frozenset[Path], texts: Mapping[Path, str] | None = None) -> str:
    """SHA-256 of what the files compute: comments, docstrings and layout do not count.

    Args:
        texts: what to take for the content of a file instead of what is on disk.
    """
    other = texts or {}
    digest = hashlib.sha256()
    # In the order of the digests, so that it does not matter where the files lie.
    parts = (_digest_code(other[p]) if p in other else _digest_file(p) for p in paths)
    for part in sorted(parts):
        digest.update(part.encode())
    return digest.hexdigest()


@cache
def pass_identity(name: str) -> str:
    """The digest of the code of a pass, known once for the life of the process."""
    return digest_sources(list_sources(PASSES[name]))


@cache
def module_identity(name: str) -> str:
    """The same of a module and all that it imports."""
    path = find_module(name)
    if path is None:
        raise ValueError(f"Expected a module of this project, found {name!r}.")
    return digest_sources(list_imported(path))


def _list_own_sources(declared: Pass) -> frozenset[Path]:
    if isinstance(declared.run, str):
        start = find_module(declared.run.partition(":")[0])
    else:
        start = Path(inspect.getfile(declared.run))
    if start is None:
        raise ValueError(f"{declared.name}: no module of this project is at {declared.run!r}.")
    return list_imported(start)


def _imports_of(path: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_text())):
        for name in _names_of(node):
            found = find_module(name)
            if found is not None:
                yield found


def _names_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for item in node.names:
            yield from _with_packages(item.name)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield from _with_packages(node.module)
        # `from package import module` names a module in the second place.
        yield from (f"{node.module}.{item.name}" for item in node.names)
    elif isinstance(node, ast.Constant) and _NAMED.fullmatch(str(node.value)):
        yield from _with_packages(str(node.value).partition(":")[0])


def _with_packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[: count + 1]) for count in range(len(parts)))


@cache
def _digest_file(path: Path) -> str:
    return _digest_code(path.read_text())


def _digest_code(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # A string that stands by itself does nothing, wherever it stands.
            node.body = [item for item in body if not _is_string(item)] or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_string(node: ast.AST) -> bool:
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant and isinstance(node.value.value, str)  # type: ignore[attr-defined]
