"""What a person is told who asks for something that cannot be done."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_agent.cli import main
from edge_agent.exceptions import InputError
from edge_agent.inference.table import read_table


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[agent]\ndevice_id = "d"\nserver_url = "http://127.0.0.1:9"\nhome = "{tmp_path}/home"\n'
    )
    return path


def pack(**arrays: object) -> Callable[[Path], None]:
    return lambda path: np.savez(path.open("wb"), **arrays)  # type: ignore[arg-type]


def cut_short(path: Path) -> None:
    pack(x=np.zeros((64, 64)))(path)
    path.write_bytes(path.read_bytes()[:9000])


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda path: None, "No such file"),
    "a folder": (Path.mkdir, "Is a directory"),
    "text": (lambda path: path.write_text("hello"), "expected an npy or npz file"),
    "nothing": (lambda path: path.write_bytes(b""), "expected an npy or npz file"),
    "pickled objects": (pack(x=np.array([{}], dtype=object)), "without pickle"),
    "an archive cut short": (cut_short, "expected an npy or npz file"),
    "arrays that do not fit": (
        pack(a=np.zeros((2, 3)), b=np.zeros(3)),
        r"found shape a \[2, 3\], b",
    ),
    "no rows": (pack(x=np.zeros((0, 3))), r"expected rows.* found shape x \[0, 3\]"),
    "one number": (lambda path: np.save(path.open("wb"), np.float32(1)), r"found shape x \[\]"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_holds_no_rows_is_named_with_expected_and_found(
    tmp_path: Path, name: str
) -> None:
    write, message = UNREADABLE[name]
    path = tmp_path / "input"
    write(path)
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_rows_come_from_an_array_or_an_archive(tmp_path: Path) -> None:
    rows = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "rows.npz", x=rows, y=np.zeros(2))
    for name in ("rows.npy", "rows.npz"):
        table = read_table(tmp_path / name)
        assert [table.take(row)["x"].tolist() for row in range(len(table))] == [
            rows[:1].tolist(),
            rows[1:].tolist(),
        ]


def test_without_a_model_a_person_is_told_to_sync(
    toml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(toml.parent / "rows.npy", np.zeros((1, 3)))
    arguments = ["--config", str(toml), "infer", str(toml.parent / "rows.npy")]
    assert main(arguments) == 1
    assert "no model is installed: aviary-agent sync --once" in capsys.readouterr().err


def test_a_damaged_state_is_named_with_what_to_do(
    toml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = toml.parent / "home"
    home.mkdir()
    (home / "state.json").write_text("{")
    assert main(["--config", str(toml), "status"]) == 1
    assert "is damaged" in (said := capsys.readouterr().err) and "restart the agent" in said
