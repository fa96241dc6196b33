"""What every store of online keys does, in files and in a PKCS#11 token, as a process of its own.

A library of PKCS#11 is loaded once for a process, with one configuration: each store is therefore
asked through the commands and the socket, as it is in use.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nacl.signing import VerifyKey
from tuf.api.metadata import Key

from registry.signer.client import SignerRefusedError, SocketSigner
from registry.signer.policy import ASSIGNMENT_TYPE, MANIFEST_TYPE
from registry.signing import key_id, pae
from registry.trust.metadata import make_key
from tests.registry.softhsm import PIN, TOKEN_STORE, make_token
from tests.registry.test_signer import run_service

MESSAGE = pae(MANIFEST_TYPE, b'{"model":"digits","version":"1.2.0"}')


@dataclass(frozen=True)
class Store:
    """One home of keys, and how it is asked."""

    folder: Path
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "registry.signer", "--keys", str(self.folder / "keys")]
        return subprocess.run(
            [*command, *self.options, *words],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
        )

    def do(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def serving(self) -> Iterator[SocketSigner]:
        running = run_service(self.folder, *self.options, environment=self.environment)
        signer, _ = next(running)
        try:
            yield signer
        finally:
            running.close()


@pytest.fixture(params=["files", "token"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path) if request.param == "files" else make_token_store(tmp_path)


@pytest.fixture
def token(tmp_path: Path) -> Store:
    return make_token_store(tmp_path)


def make_token_store(folder: Path) -> Store:
    made = make_token(folder)
    return Store(folder, ("--key-store", TOKEN_STORE), made.environment)


def made_key(store: Store, role: str) -> bytes:
    """The public key of the one entry that `make-key` prints."""
    [(name, fields)] = json.loads(store.do("make-key", role)).items()
    public = bytes.fromhex(fields["keyval"]["public"])
    assert name == key_id(public)
    return public


def test_a_key_is_made_once_and_printed_as_metadata_names_it(store: Store) -> None:
    [(name, fields)] = json.loads(store.do("make-key", "timestamp")).items()
    public = bytes.fromhex(fields["keyval"]["public"])
    assert Key.from_dict(name, fields) == make_key(public)
    assert made_key(store, "timestamp") == public


def test_what_it_signs_verifies_and_roles_have_different_keys(store: Store) -> None:
    keys = {role: made_key(store, role) for role in ("manifest", "assignment")}
    assert len(set(keys.values())) == 2
    with store.serving() as signer:
        public, signature = signer.sign("manifest", MESSAGE)
        assert public == keys["manifest"]
        VerifyKey(public).verify(MESSAGE, signature)
        assert signer.sign("manifest", MESSAGE) == (public, signature)
        assert signer.known_keys("assignment") == [keys["assignment"]]


def test_the_policy_stands_before_the_store(store: Store) -> None:
    made_key(store, "manifest")
    with store.serving() as signer, pytest.raises(SignerRefusedError, match="does not sign"):
        signer.sign("manifest", pae(ASSIGNMENT_TYPE, b"{}"))


def test_a_rotation_while_the_service_runs_tells_of_the_next_key_first(store: Store) -> None:
    old = made_key(store, "manifest")
    with store.serving() as signer:
        assert signer.sign("manifest", MESSAGE)[0] == old
        new = bytes.fromhex(store.do("prepare-rotation", "manifest"))
        assert store.do("prepare-rotation", "manifest") == new.hex()
        assert signer.known_keys("manifest") == [old, new]
        assert signer.sign("manifest", MESSAGE)[0] == old
        store.do("finish-rotation", "manifest")
        assert signer.known_keys("manifest") == [new, old]
        public, signature = signer.sign("manifest", MESSAGE)
        assert public == new
        VerifyKey(new).verify(MESSAGE, signature)


def test_a_revoked_key_is_forgotten(store: Store) -> None:
    made_key(store, "assignment")
    new = bytes.fromhex(store.do("prepare-rotation", "assignment"))
    store.do("finish-revocation", "assignment")
    with store.serving() as signer:
        assert signer.known_keys("assignment") == [new]


def test_a_rotation_that_was_not_prepared_is_refused(store: Store) -> None:
    before = made_key(store, "manifest")
    refused = store.run("finish-rotation", "manifest")
    assert refused.returncode == 1 and "prepare the rotation first" in refused.stderr
    assert made_key(store, "manifest") == before


def test_keys_outlive_the_service(store: Store) -> None:
    made_key(store, "manifest")
    with store.serving() as signer:
        before = signer.sign("manifest", MESSAGE)
    with store.serving() as signer:
        assert signer.sign("manifest", MESSAGE) == before


def test_a_private_key_never_leaves_its_token(token: Store) -> None:
    made_key(token, "manifest")
    code = (
        "import pkcs11, sys\n"
        "from pkcs11 import Attribute, ObjectClass\n"
        "token = pkcs11.lib(sys.argv[1]).get_token(token_label='aviary')\n"
        "with token.open(user_pin=sys.argv[2]) as session:\n"
        "    [key] = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})\n"
        "    print(key[Attribute.SENSITIVE], key[Attribute.EXTRACTABLE])\n"
        "    try:\n"
        "        print(key[Attribute.VALUE])\n"
        "    except pkcs11.exceptions.PKCS11Error as error:\n"
        "        print(type(error).__name__)\n"
    )
    settings = (token.folder / "keys" / "pkcs11.toml").read_text()
    module = settings.split('"')[1]
    told = subprocess.run(
        [sys.executable, "-c", code, module, PIN],
        env={**os.environ, **token.environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert told == ["True", "False", "AttributeSensitive"]
    assert sorted(path.name for path in (token.folder / "keys").iterdir()) == [
        "manifest.token", "pin", "pkcs11.toml",
    ]  # fmt: skip


def test_the_replaced_pair_is_gone_from_the_token(token: Store) -> None:
    made_key(token, "manifest")
    keys = token.folder / "keys"
    last = (keys / "manifest.token").read_text()
    token.do("prepare-rotation", "manifest")
    token.do("finish-rotation", "manifest")
    assert (keys / "manifest.token").read_text() != last
    (keys / "manifest.token").write_text(last)
    refused = token.run("make-key", "manifest")
    assert refused.returncode == 1 and "has 0 objects of kind PRIVATE_KEY" in refused.stderr


def test_a_token_without_the_key_says_how_to_make_it(token: Store) -> None:
    with token.serving() as signer:
        with pytest.raises(SignerRefusedError, match="make-key manifest"):
            signer.sign("manifest", MESSAGE)
        made_key(token, "manifest")
        assert signer.sign("manifest", MESSAGE)


def test_a_pin_that_was_refused_is_never_tried_again(token: Store) -> None:
    """Tokens lock after a few wrong tries."""
    made_key(token, "manifest")
    pin = token.folder / "keys" / "pin"
    pin.write_text("wrong bird")
    with token.serving() as signer:
        for words in ("PinIncorrect", r"refused the PIN in \S+pin'", r"refused the PIN in \S+pin'"):
            with pytest.raises(SignerRefusedError, match=words):
                signer.sign("manifest", MESSAGE)
        pin.write_text(PIN)
        assert signer.sign("manifest", MESSAGE)


SETTINGS = {
    "no file": (None, "cannot be read"),
    "no TOML": ("module", "cannot be read"),
    "a missing field": ('module = "x"', r"missing or no text: \['token'"),
    "an unknown field": ("pin = 1234", r"unknown: \['pin'\]"),
    "no such library": (
        'module = "/no/such.so"\ntoken = "aviary"\nkey_label = "a"\npin_file = "pin"',
        "/no/such.so has no token 'aviary'",
    ),
    "no such token": ("other token", "has no token 'other'"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_wrong_setting_ends_the_start_and_is_named(token: Store, case: str) -> None:
    content, words = SETTINGS[case]
    path = token.folder / "keys" / "pkcs11.toml"
    before = path.read_text()
    path.unlink()
    if content == "other token":
        content = before.replace('token = "aviary"', 'token = "other"')
    if content is not None:
        path.write_text(content)
    refused = token.run("serve", "--socket", str(token.folder / "signer.sock"))
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ") and len(refused.stderr.splitlines()) == 1
    assert re.search(words, refused.stderr), refused.stderr


def test_a_key_store_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    for name in ("nosuch.module:Class", "registry.signer.keys:Nothing", ":"):
        refused = Store(tmp_path, ("--key-store", name)).run("make-key", "manifest")
        assert refused.returncode == 1 and f"--key-store {name!r} cannot" in refused.stderr
