"""A private S3 server (ministack, in a virtual environment of its own) with one bucket."""

import json
import os
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from servers.processes import (
    ManagedProcess,
    ServerError,
    free_port,
    give_to_unprivileged,
    is_listening,
)

REPOSITORY = Path(__file__).resolve().parents[1]
BUCKET = "aviary"
_REGION = "us-east-1"
_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}


class ObjectServer:
    """Started by `start`; `environment` is what a client needs to use the bucket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment: dict[str, str] = {}
        self._process: ManagedProcess | None = None

    def start(self) -> "ObjectServer":
        program = REPOSITORY / ".venv-s3" / "bin" / "ministack"
        if not program.exists():
            raise ServerError(f"{program} is missing: run `make .venv-s3` or set S3_ENDPOINT_URL")
        give_to_unprivileged(self.directory)
        port = int(self.url.rsplit(":", 1)[1])
        home = str(self.directory)
        environment = {
            **os.environ,
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",
            "SERVICES": "s3,iam,sts",
            "TMPDIR": home,
            "HOME": home,
        }
        self._process = ManagedProcess(
            "S3",
            [program],
            log_path=self.directory / "log",
            env=environment,
            cwd=self.directory,
            # Its packages may lie where only the owner can read; it serves the loopback alone.
            drop_root=False,
        )
        self._process.wait_until(lambda: is_listening(port))
        self.environment = self._create_bucket()
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def _client(self, service: str, key: str, secret: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=_REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(signature_version="s3v4" if service == "s3" else None),
        )

    def _create_bucket(self) -> dict[str, str]:
        """Make a user of its own: requests of ministack's built-in account are not checked."""
        iam = self._client("iam", "test", "test")
        iam.create_user(UserName="aviary")
        iam.put_user_policy(
            UserName="aviary", PolicyName="objects", PolicyDocument=json.dumps(_POLICY)
        )
        key = iam.create_access_key(UserName="aviary")["AccessKey"]
        access_key, secret_key = key["AccessKeyId"], key["SecretAccessKey"]
        self._client("s3", access_key, secret_key).create_bucket(Bucket=BUCKET)
        return {
            "S3_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_REGION": _REGION,
            "AVIARY_S3_BUCKET": BUCKET,
        }
