"""`python -m registry.signer`: serve, make a key, or rotate one."""

import argparse
import hashlib
import importlib
import json
import logging
import signal
import sys
import threading
from pathlib import Path

from registry.signer.keys import FileKeyStore, KeyStore, KeyStoreError, RotatingKeyStore
from registry.signer.policy import ROLES
from registry.signer.server import SigningServer


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m registry.signer", description=__doc__)
    parser.add_argument("--keys", type=Path, required=True, help="the folder of the private keys")
    parser.add_argument("--key-store", default="", help="module:Class in place of files")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="sign for whoever may use the socket")
    serve.add_argument("--socket", type=Path, required=True)
    serve.add_argument("--allow-uid", type=int, action="append", default=[])
    serve.add_argument("--key-store", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for name, text in (
        ("make-key", "make the key, and print it as metadata of root or targets name it"),
        ("prepare-rotation", "make the next key; devices must be told of it before it signs"),
        ("finish-rotation", "let the next key sign, and go on trusting the last one"),
        ("finish-revocation", "let the next key sign, and forget the last one"),
    ):
        commands.add_parser(name, help=text).add_argument("role", choices=ROLES)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        store = _make_store(arguments.keys, arguments.key_store)
        if arguments.command == "serve":
            return _serve(arguments, store)
        _change_keys(store, arguments.command, arguments.role)
    except KeyStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def describe_key(public_key: bytes) -> str:
    """The key as TUF's metadata names it: one line of JSON, `{key id: key}`."""
    key = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public_key.hex()}}
    return json.dumps({hashlib.sha256(public_key).hexdigest(): key})


def _change_keys(store: KeyStore, command: str, role: str) -> None:
    if not isinstance(store, RotatingKeyStore):
        raise KeyStoreError(
            f"{type(store).__name__} makes and replaces no keys: use the means of its own service"
        )
    if command == "make-key":
        sys.stdout.write(describe_key(store.make_key(role)) + "\n")
    elif command == "prepare-rotation":
        sys.stdout.write(store.prepare_rotation(role).hex() + "\n")
    else:
        store.finish_rotation(role, is_revoked=command == "finish-revocation")


def _serve(arguments: argparse.Namespace, store: KeyStore) -> int:
    server = SigningServer(arguments.socket, store, allowed_uids=arguments.allow_uid)

    def stop(*_: object) -> None:
        # `shutdown` waits for the loop, which this handler interrupts: another thread must ask.
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with server:
        server.serve_forever(poll_interval=0.2)
    arguments.socket.unlink(missing_ok=True)
    return 0


def _make_store(folder: Path, name: str) -> KeyStore:
    if not name:
        return FileKeyStore(folder)
    module, _, attribute = name.partition(":")
    try:
        store: KeyStore = getattr(importlib.import_module(module), attribute)(folder)
    except (ImportError, AttributeError, ValueError) as error:
        raise KeyStoreError(f"--key-store {name!r} cannot be loaded: {error}") from error
    return store


if __name__ == "__main__":
    raise SystemExit(main())
