"""What the documents point at is there: files, sections, make targets, commands and variables."""

import re
import subprocess
from pathlib import Path

import pytest
from django.core.management import get_commands

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    REPOSITORY / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
)
_IDS = [str(path.relative_to(REPOSITORY)) for path in DOCUMENTS]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors that a forge gives to the headings of a document."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def code_of(text: str) -> str:
    return "\n".join(_CODE.findall(text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_IDS)
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for target in _LINK.findall(_CODE.sub("", document.read_text("utf-8"))):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        file = (document.parent / path).resolve() if path else document
        is_there = file.exists() and (not anchor or anchor in anchors(file.read_text("utf-8")))
        if not is_there:
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_IDS)
def test_every_make_target_and_command_exists(document: Path) -> None:
    code = code_of(document.read_text("utf-8"))
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([\w.-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z.][\w.-]*)", code))
    assert named - targets == set()
    assert set(re.findall(r"\bmanage\.py ([a-z_]+)", code)) - set(get_commands()) == set()


def test_every_variable_is_described() -> None:
    config = REPOSITORY / "config"
    readers = [config / "env.py", *sorted((config / "settings").glob("*.py"))]
    source = "".join(path.read_text("utf-8") for path in readers)
    read = set(re.findall(r'(?:env_\w+|secret_or_generated)\(\s*"([A-Z_0-9]+)"', source))
    described = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    assert "AVIARY_HOME" in read
    missing = [n for n in read if f"`{n}`" not in described and not n.startswith("AWS_")]
    assert missing == []


def test_the_documents_speak_of_the_project_alone() -> None:
    """No path of the machine on which somebody happened to write, and no address of its own."""
    private = re.compile(r"/(?:work|root|home/[a-z]+)/|file://")
    found = [
        name
        for name, path in zip(_IDS, DOCUMENTS, strict=True)
        if private.search(path.read_text("utf-8"))
    ]
    assert found == []


def test_the_threat_model_names_tests_that_exist() -> None:
    text = (REPOSITORY / "THREAT_MODEL.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", text)
    assert named
    for path, name in named:
        source = (REPOSITORY / "tests" / path).read_text(encoding="utf-8")
        assert f"def {name}(" in source, f"{path}::{name}"
