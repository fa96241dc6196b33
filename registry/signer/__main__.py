"""`python -m registry.signer`: serve, or rotate a key."""

import argparse
import importlib
import logging
import signal
import sys
import threading
from pathlib import Path

from registry.signer.keys import FileKeyStore, KeyFileError, KeyStore
from registry.signer.policy import ROLES
from registry.signer.server import SigningServer


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m registry.signer", description=__doc__)
    parser.add_argument("--keys", type=Path, required=True, help="the folder of the private keys")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="sign for whoever may use the socket")
    serve.add_argument("--socket", type=Path, required=True)
    serve.add_argument("--allow-uid", type=int, action="append", default=[])
    serve.add_argument("--key-store", default="", help="module:Class in place of files")
    for name, text in (
        ("prepare-rotation", "make the next key; devices must be told of it before it signs"),
        ("finish-rotation", "let the next key sign, and go on trusting the last one"),
        ("finish-revocation", "let the next key sign, and forget the last one"),
    ):
        commands.add_parser(name, help=text).add_argument("role", choices=ROLES)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        if arguments.command == "serve":
            return _serve(arguments)
        store = FileKeyStore(arguments.keys)
        if arguments.command == "prepare-rotation":
            sys.stdout.write(store.prepare_rotation(arguments.role).hex() + "\n")
        else:
            store.finish_rotation(
                arguments.role, is_revoked=arguments.command == "finish-revocation"
            )
    except KeyFileError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    server = SigningServer(
        arguments.socket, _make_store(arguments), allowed_uids=arguments.allow_uid
    )

    def stop(*_: object) -> None:
        # `shutdown` waits for the loop, which this handler interrupts: another thread must ask.
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with server:
        server.serve_forever(poll_interval=0.2)
    arguments.socket.unlink(missing_ok=True)
    return 0


def _make_store(arguments: argparse.Namespace) -> KeyStore:
    if not arguments.key_store:
        return FileKeyStore(arguments.keys)
    module, _, name = arguments.key_store.partition(":")
    store: KeyStore = getattr(importlib.import_module(module), name)(arguments.keys)
    return store


if __name__ == "__main__":
    raise SystemExit(main())
