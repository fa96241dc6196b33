"""Where rows, cached values and files are kept."""

from pathlib import Path
from typing import Any

import dj_database_url

from config.env import env_bool, env_int, env_str
from config.settings.base import AVIARY_HOME
from config.settings.intervals import AVIARY_URL_TTL_SECONDS

AVIARY_DATABASE_SECONDS = env_int("AVIARY_DATABASE_SECONDS", 60, minimum=1)
DATABASE_URL = env_str("DATABASE_URL")
#: For `make_database_roles` alone, which the owner of the database runs.
AVIARY_APP_DATABASE_URL = env_str("AVIARY_APP_DATABASE_URL")
DATABASES: dict[str, Any]
if DATABASE_URL:
    DATABASES = {"default": dj_database_url.parse(DATABASE_URL, conn_max_age=60)}
    DATABASES["default"]["ENGINE"] = "config.stores.postgresql"
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 3)
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(AVIARY_HOME / "aviary.sqlite3"),
            "OPTIONS": {
                # Writers queue at BEGIN instead of failing at their first write.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
                "PRAGMA busy_timeout=20000;",
            },
        }
    }


REDIS_URL = env_str("REDIS_URL")
CACHES = {
    "default": (
        {"BACKEND": "config.stores.valkey_cache.ValkeyCache", "LOCATION": REDIS_URL}
        if REDIS_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "aviary"}
    )
}

S3_ENDPOINT_URL = env_str("S3_ENDPOINT_URL")
AVIARY_S3_BUCKET = env_str("AVIARY_S3_BUCKET")
_blob_storage: dict[str, Any]
if AVIARY_S3_BUCKET:
    _blob_storage = {
        "BACKEND": "config.stores.object_store.GuardedS3Storage",
        "OPTIONS": {
            "bucket_name": AVIARY_S3_BUCKET,
            "endpoint_url": S3_ENDPOINT_URL or None,
            "region_name": env_str("AWS_REGION", "us-east-1"),
            "access_key": env_str("AWS_ACCESS_KEY_ID") or None,
            "secret_key": env_str("AWS_SECRET_ACCESS_KEY") or None,
            "signature_version": "s3v4",
            "addressing_style": "path",
            "file_overwrite": True,
            "default_acl": None,
            "querystring_expire": AVIARY_URL_TTL_SECONDS,
            # A larger object spools to disk instead of memory.
            "max_memory_size": 8 * 1024 * 1024,
        },
    }
else:
    _blob_storage = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(AVIARY_HOME / "objects")},
    }
STORAGES = {
    "default": _blob_storage,
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
STATIC_URL = "/static/"
STATIC_ROOT = Path(env_str("AVIARY_STATIC_ROOT", str(AVIARY_HOME / "static")))
# Serves static files from the apps themselves, so the embedded default needs no collectstatic.
WHITENOISE_USE_FINDERS = env_bool("WHITENOISE_USE_FINDERS", not DATABASE_URL)
