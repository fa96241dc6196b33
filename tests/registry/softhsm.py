"""A real PKCS#11 token for tests: SoftHSM, with its files in a folder of the test."""

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

TOKEN_STORE = "registry.signer.token_keys:TokenKeyStore"
PIN = "2 small birds"
MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True)
class Token:
    """`folder` is what the signing service gets as --keys."""

    folder: Path
    environment: dict[str, str]


def find_softhsm() -> str:
    """The path of SoftHSM's library; without it CI fails and other places skip."""
    for path in (os.environ.get("SOFTHSM2_MODULE", ""), *MODULES):
        if path and Path(path).exists() and shutil.which("softhsm2-util"):
            if importlib.util.find_spec("pkcs11"):
                return path
            return _miss("no python-pkcs11: install requirements-pkcs11.txt")
    return _miss("no SoftHSM: `apt-get install softhsm2`, or set SOFTHSM2_MODULE")


def _miss(how: str) -> str:
    if os.environ.get("CI"):
        pytest.fail(how)
    pytest.skip(f"TOKEN TESTS NOT RUN: {how}")


def make_token(folder: Path) -> Token:
    """An empty token in `folder`, and the settings that name it in `folder/keys`."""
    module = find_softhsm()
    tokens, keys, conf = folder / "tokens", folder / "keys", folder / "softhsm2.conf"
    tokens.mkdir(parents=True)
    keys.mkdir()
    conf.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\n")
    environment = {"SOFTHSM2_CONF": str(conf)}
    command = ["softhsm2-util", "--init-token", "--free", "--label", "aviary"]
    subprocess.run(
        [*command, "--so-pin", "of the officer", "--pin", PIN],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    (keys / "pin").write_text(PIN + "\n")
    (keys / "pkcs11.toml").write_text(
        f'module = "{module}"\ntoken = "aviary"\nkey_label = "aviary"\npin_file = "pin"\n'
    )
    return Token(keys, environment)
