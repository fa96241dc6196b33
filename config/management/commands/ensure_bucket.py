"""Makes the S3 bucket when it is missing; does nothing on local files."""

from typing import Any

from botocore.exceptions import ClientError
from django.conf import settings
from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """`manage.py ensure_bucket`: safe to run at every start."""

    help = "Make the object store's bucket when it is missing."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.AVIARY_S3_BUCKET:
            self.stdout.write("Objects are local files; there is no bucket to make.")
            return
        client = default_storage.connection.meta.client  # type: ignore[attr-defined]
        try:
            client.head_bucket(Bucket=settings.AVIARY_S3_BUCKET)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise CommandError(
                    f"Bucket {settings.AVIARY_S3_BUCKET} cannot be reached: {error}"
                ) from error
            client.create_bucket(Bucket=settings.AVIARY_S3_BUCKET)
            self.stdout.write(f"Made the bucket {settings.AVIARY_S3_BUCKET}.")
