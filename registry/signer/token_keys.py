"""Private keys in a PKCS#11 token (hardware, smart card, SoftHSM), which they never leave.

The folder of the signing service holds no secret then but the PIN's file, if it lies there:

- `pkcs11.toml`: `module`, the path of the token's library; `token`, its label; `key_label`, how the
  labels of keys begin; `pin_file`, the file with the user's PIN;
- `<role>.token`: the hexadecimal CKA_ID of the key pair that signs. `<role>.next.token`: of the one
  that devices are told of but that does not sign yet;
- `retired/`: public keys, as `keys.FileKeyStore` keeps them.

Keys are Ed25519 (CKM_EDDSA; PKCS#11 3.0, section 2.3.14) and are made in the token.
"""

import secrets
import threading
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pkcs11
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import PinIncorrect, PinInvalid, PinLenRange, PinLocked, PKCS11Error
from pkcs11.util.ec import encode_named_curve_parameters

from registry.signer.keys import (
    KeyStoreError,
    checked_role,
    create_file,
    retire_key,
    retired_keys,
)

SETTINGS_FILE = "pkcs11.toml"
ED25519_OID = "1.3.101.112"
#: Means nothing to any device; shows that private and public key belong together.
PROBE = b"aviary: are these keys a pair?"
_FIELDS = ("module", "token", "key_label", "pin_file")
_WRONG_PIN = (PinIncorrect, PinInvalid, PinLenRange, PinLocked)
Result = TypeVar("Result")


@dataclass(frozen=True)
class TokenSettings:
    """Which token, and how its keys are called. A relative `pin_file` is beside the settings."""

    module: str
    token: str
    key_label: str
    pin_file: Path


def read_settings(path: Path) -> TokenSettings:
    """What the file says.

    Raises:
        KeyStoreError: it cannot be read, or a field is missing, empty or unknown.
    """
    try:
        fields = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise KeyStoreError(f"{path} cannot be read: {error}") from error
    wrong = [name for name in _FIELDS if not isinstance(fields.get(name), str) or not fields[name]]
    unknown = sorted(set(fields) - set(_FIELDS))
    if wrong or unknown:
        raise KeyStoreError(
            f"{path} has the texts {', '.join(_FIELDS)} and nothing else; "
            f"missing or no text: {wrong}, unknown: {unknown}"
        )
    return TokenSettings(
        fields["module"], fields["token"], fields["key_label"], path.parent / fields["pin_file"]
    )


class TokenKeyStore:
    """Keys in the token that `pkcs11.toml` in the folder names; `keys.RotatingKeyStore`."""

    def __init__(self, folder: Path) -> None:
        """Finds the token, so that a wrong setting ends the start. The PIN is used at first need.

        Raises:
            KeyStoreError: no such library or token.
        """
        self.folder = folder
        self.settings = read_settings(folder / SETTINGS_FILE)
        self._lock = threading.RLock()
        self._session: Any = None
        self._is_writable = False
        self._refused_pin: str | None = None
        self._loaded: dict[bytes, tuple[Any, bytes]] = {}
        try:
            self._library = pkcs11.lib(self.settings.module)
            self._library.get_token(token_label=self.settings.token)
        except (PKCS11Error, RuntimeError, OSError) as error:
            raise KeyStoreError(
                f"{self.settings.module} has no token {self.settings.token!r}: {_words(error)}"
            ) from error

    def active_key(self, role: str) -> bytes:
        return self._public_key(role, self._active(role))

    def known_keys(self, role: str) -> list[bytes]:
        found = [self.active_key(role)]
        following = self._next(role)
        if following.exists():
            found.append(self._public_key(role, following))
        return list(dict.fromkeys(found + retired_keys(self.folder, role)))

    def sign(self, role: str, message: bytes) -> bytes:
        path = self._active(role)

        def act() -> bytes:
            private, _ = self._key(role, path)
            return bytes(private.sign(message, mechanism=Mechanism.EDDSA))

        return self._ask(role, act)

    def make_key(self, role: str) -> bytes:
        return self._make(role, self._active(role))

    def prepare_rotation(self, role: str) -> bytes:
        return self._make(role, self._next(role))

    def finish_rotation(self, role: str, *, is_revoked: bool = False) -> None:
        """As `RotatingKeyStore` says; the pair that signed until now is destroyed in the token."""
        active, following = self._active(role), self._next(role)
        if not following.exists():
            raise KeyStoreError(f"{following} does not exist: prepare the rotation first")
        self._public_key(role, following)  # it must be there before anything else goes
        last = _read_id(active)
        if not is_revoked:
            retire_key(self.folder, role, self.active_key(role))
        following.replace(active)
        self._ask(role, lambda: self._destroy(last))

    def _active(self, role: str) -> Path:
        return self.folder / f"{checked_role(role)}.token"

    def _next(self, role: str) -> Path:
        return self.folder / f"{checked_role(role)}.next.token"

    def _label(self, role: str) -> str:
        return f"{self.settings.key_label}-{role}"

    def _make(self, role: str, path: Path) -> bytes:
        if not path.exists():
            made = secrets.token_bytes(16)
            self._ask(role, lambda: self._generate(role, made))
            if not create_file(path, made.hex().encode("ascii") + b"\n"):
                self._ask(role, lambda: self._destroy(made))
        return self._public_key(role, path)

    def _generate(self, role: str, name: bytes) -> None:
        self._destroy(name)  # what a first try, whose answer was lost, may have made
        parameters = {Attribute.EC_PARAMS: encode_named_curve_parameters(ED25519_OID)}
        domain = self._open(is_writable=True).create_domain_parameters(
            KeyType.EC_EDWARDS, parameters, local=True
        )
        domain.generate_keypair(
            id=name,
            label=self._label(role),
            store=True,
            mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
        )

    def _destroy(self, name: bytes) -> None:
        self._loaded.pop(name, None)
        session = self._open(is_writable=True)
        for found in list(session.get_objects({Attribute.ID: name})):
            found.destroy()

    def _public_key(self, role: str, path: Path) -> bytes:
        return self._ask(role, lambda: self._key(role, path)[1])

    def _key(self, role: str, path: Path) -> tuple[Any, bytes]:
        """The private key's handle and the public key. Read again at each call: a rotation by
        another process puts another id into the file while this one runs."""
        if not path.exists():
            raise KeyStoreError(
                f"{path} does not exist: make the key in the token with "
                f"`python -m registry.signer … make-key {role}`"
            )
        name = _read_id(path)
        session = self._open()
        known = self._loaded.get(name)
        if known is None:
            known = self._loaded[name] = self._load(session, role, name)
        return known

    def _load(self, session: Any, role: str, name: bytes) -> tuple[Any, bytes]:
        found = {}
        for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
            what = {
                Attribute.CLASS: kind,
                Attribute.ID: name,
                Attribute.LABEL: self._label(role),
            }
            rows = list(session.get_objects(what))
            if len(rows) != 1:
                raise KeyStoreError(
                    f"The token {self.settings.token} has {len(rows)} objects of kind {kind.name} "
                    f"with label {self._label(role)} and id {name.hex()}, expected 1"
                )
            found[kind] = rows[0]
        private = found[ObjectClass.PRIVATE_KEY]
        public = _raw_point(bytes(found[ObjectClass.PUBLIC_KEY][Attribute.EC_POINT]))
        try:
            VerifyKey(public).verify(PROBE, private.sign(PROBE, mechanism=Mechanism.EDDSA))
        except (BadSignatureError, ValueError) as error:
            raise KeyStoreError(
                f"The token's keys with label {self._label(role)} and id {name.hex()} are no "
                f"Ed25519 pair: {error}"
            ) from error
        return private, public

    def _open(self, *, is_writable: bool = False) -> Any:
        """A session that is logged in. There is one: logging in is for the whole process."""
        if self._session is not None and is_writable and not self._is_writable:
            self._close()
        if self._session is None:
            try:
                pin = self.settings.pin_file.read_text("utf-8").strip()
            except (OSError, ValueError) as error:
                raise KeyStoreError(f"The PIN cannot be read: {error}") from error
            # Tokens lock after a few wrong PINs: the same one is never tried twice.
            if pin == self._refused_pin:
                raise KeyStoreError(f"The token refused the PIN in {self.settings.pin_file}")
            try:
                token = self._library.get_token(token_label=self.settings.token)
                self._session = token.open(rw=is_writable, user_pin=pin)
            except _WRONG_PIN as error:
                self._refused_pin = pin
                raise KeyStoreError(
                    f"The token refused the PIN in {self.settings.pin_file}: {_words(error)}"
                ) from error
            self._is_writable, self._refused_pin = is_writable, None
        return self._session

    def _close(self) -> None:
        session, self._session = self._session, None
        self._loaded.clear()
        if session is not None:
            try:
                session.close()
            except PKCS11Error:
                return  # the token forgot it first

    def _ask(self, role: str, act: Callable[[], Result]) -> Result:
        """What `act` gives, which is tried again once with the library begun anew.

        A token that was pulled out, or whose connection broke, comes back so. All that is asked
        here may be done twice.
        """
        with self._lock:
            try:
                return act()
            except PKCS11Error:
                self._close()
            try:
                self._library.reinitialize()
                return act()
            except PKCS11Error as error:
                self._close()
                raise KeyStoreError(
                    f"The token {self.settings.token} does not do this for {role}: {_words(error)}"
                ) from error


def _words(error: Exception) -> str:
    # The library's exceptions often have a name and no text.
    return f"{type(error).__name__} {error}".strip()


def _read_id(path: Path) -> bytes:
    try:
        return bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise KeyStoreError(f"{path} holds no hexadecimal id of a key: {error}") from error


def _raw_point(point: bytes) -> bytes:
    """The 32 bytes of a public key: some tokens give them bare, others as a DER octet string."""
    raw = point[2:] if len(point) == 34 and point[:2] == b"\x04\x20" else point
    if len(raw) != 32:
        raise KeyStoreError(f"The token's public key has {len(point)} bytes, expected 32 or 34")
    return raw
