"""The root of trust from the command line; docs/operations.md walks through it."""

from __future__ import annotations

import argparse
import base64
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from nacl.signing import SigningKey
from tuf.api.metadata import Root

from registry.exceptions import AviaryError
from registry.keys import known_keys
from registry.services import trust, trust_renewal
from registry.signer.keys import KeyStoreError, create_key, read_key
from registry.signing import key_id
from registry.trust import metadata as tuf

ACTOR = "command line"


class Command(BaseCommand):
    help = "Makes, signs and publishes the root of trust; `keygen` and `sign` work offline."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="verb", required=True)
        commands.add_parser("status", help="versions, expiry and keys")
        init = commands.add_parser("init", help="the first root, with new offline keys")
        init.add_argument("offline", type=Path, help="an empty folder for the offline keys")
        init.add_argument("--root-keys", type=int, default=3)
        init.add_argument("--threshold", type=int, default=2)
        keygen = commands.add_parser("keygen", help="one offline key: FILE and FILE.pub")
        keygen.add_argument("file", type=Path)
        root = commands.add_parser("prepare-root", help="the next root, to be signed offline")
        root.add_argument("file", type=Path)
        root.add_argument("--add", type=Path, action="append", default=[], metavar="PUB")
        root.add_argument("--remove", action="append", default=[], metavar="KEYID")
        root.add_argument("--threshold", type=int)
        root.add_argument("--targets-key", type=Path, action="append", default=[], metavar="PUB")
        targets = commands.add_parser(
            "prepare-targets", help="delegations to the online keys as they are now"
        )
        targets.add_argument("file", type=Path)
        sign = commands.add_parser("sign", help="add the signature of an offline key to a file")
        sign.add_argument("file", type=Path)
        sign.add_argument("key", type=Path)
        publish = commands.add_parser("publish", help="hand a signed root or targets to devices")
        publish.add_argument("file", type=Path)
        commands.add_parser("sign-again", help="sign old manifests with today's manifest key")
        commands.add_parser("renew", help="sign snapshot and timestamp again now")

    def handle(self, *args: Any, **options: Any) -> None:
        verb = options["verb"].replace("-", "_")
        try:
            getattr(self, f"_{verb}")(options)
        except AviaryError as error:
            raise CommandError(error.message) from error
        except (KeyStoreError, OSError) as error:
            raise CommandError(str(error)) from error

    def _init(self, options: dict[str, Any]) -> None:
        folder: Path = options["offline"]
        if folder.exists() and any(folder.iterdir()):
            raise CommandError(f"Expected an empty folder; {folder} holds something")
        paths = [folder / f"root-{number}.key" for number in range(1, options["root_keys"] + 1)]
        targets = folder / "targets.key"
        for path in (*paths, targets):
            create_key(path)
        keys = {path: SigningKey(read_key(path)) for path in (*paths, targets)}
        row = trust.begin_trust(
            root_keys=[bytes(keys[path].verify_key) for path in paths],
            targets_keys=[bytes(keys[targets].verify_key)],
            threshold=options["threshold"],
            sign={bytes(key.verify_key): trust.sign_with(key) for key in keys.values()},
            actor=ACTOR,
            now=timezone.now(),
        )
        self.stdout.write(
            f"{row} is published. Move {folder} off this machine now: "
            f"{options['threshold']} of its {len(paths)} root keys can replace every other key."
        )

    def _keygen(self, options: dict[str, Any]) -> None:
        path: Path = options["file"]
        if path.exists():
            raise CommandError(f"{path} exists")
        create_key(path)
        public = bytes(SigningKey(read_key(path)).verify_key)
        path.with_name(path.name + ".pub").write_bytes(base64.b64encode(public) + b"\n")
        self.stdout.write(key_id(public))

    def _prepare_root(self, options: dict[str, Any]) -> None:
        known = self._current_root()
        keys = {
            keyid: bytes.fromhex(known.keys[keyid].keyval["public"])
            for keyid in known.roles["root"].keyids
        }
        for keyid in options["remove"]:
            if keys.pop(keyid, None) is None:
                raise CommandError(f"The root has no key {keyid}; it has {', '.join(keys)}")
        publics = [*keys.values(), *(read_key(path) for path in options["add"])]
        targets = [read_key(path) for path in options["targets_key"]] or [
            bytes.fromhex(known.keys[keyid].keyval["public"])
            for keyid in known.roles["targets"].keyids
        ]
        root = tuf.make_root(
            known,
            keys={
                "root": publics,
                "targets": targets,
                **{role: known_keys(role) for role in tuf.ONLINE_ROLES},
            },
            thresholds={"root": options["threshold"] or known.roles["root"].threshold},
            now=timezone.now(),
        )
        options["file"].write_bytes(tuf.encode(root))
        self.stdout.write(
            f"Root {root.signed.version} needs {known.roles['root'].threshold} signatures of the "
            f"keys of before and {root.signed.roles['root'].threshold} of its own."
        )

    def _prepare_targets(self, options: dict[str, Any]) -> None:
        self._current_root()
        previous = trust_renewal.latest("targets")
        targets = tuf.make_targets(
            previous.version + 1 if previous else 1,
            delegated=trust.online_delegations(),
            now=timezone.now(),
        )
        options["file"].write_bytes(tuf.encode(targets))
        for role in tuf.DELEGATED:
            ids = [key_id(public) for public in tuf.delegated_keys(targets.signed, role)]
            self.stdout.write(f"{role}: {', '.join(ids)}")

    def _sign(self, options: dict[str, Any]) -> None:
        metadata = tuf.decode(options["file"].read_bytes())
        tuf.add_signature(metadata, trust.sign_with(SigningKey(read_key(options["key"]))))
        options["file"].write_bytes(tuf.encode(metadata))
        self.stdout.write(f"{len(metadata.signatures)} signatures")

    def _publish(self, options: dict[str, Any]) -> None:
        data = options["file"].read_bytes()
        if isinstance(tuf.decode(data).signed, Root):
            row = trust.publish_root(data=data, actor=ACTOR, now=timezone.now())
            trust_renewal.renew_online(now=timezone.now(), is_forced=True)
        else:
            row = trust.publish_targets(data=data, actor=ACTOR, now=timezone.now())
        self.stdout.write(f"{row} is published")

    def _sign_again(self, options: dict[str, Any]) -> None:
        self.stdout.write(f"{trust.sign_again(actor=ACTOR)} manifests signed again")

    def _renew(self, options: dict[str, Any]) -> None:
        self.stdout.write(
            f"{trust_renewal.renew_online(now=timezone.now(), is_forced=True)} files written"
        )

    def _status(self, options: dict[str, Any]) -> None:
        for role in ("root", "targets", "manifests", "snapshot", "timestamp"):
            row = trust_renewal.latest(role)
            if row is None:
                self.stdout.write(f"{role}: none")
            else:
                self.stdout.write(f"{role}: version {row.version}, ends {row.expires_at:%Y-%m-%d}")

    def _current_root(self) -> Root:
        row = trust_renewal.latest("root")
        if row is None:
            raise CommandError("There is no root yet: `manage.py trust init FOLDER` makes one")
        root = tuf.decode(bytes(row.body)).signed
        assert isinstance(root, Root)
        return root
