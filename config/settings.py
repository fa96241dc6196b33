"""All settings, read from the environment here and nowhere else.

With nothing set, everything runs embedded: SQLite, files and an in-process cache below
`AVIARY_HOME`. `docs/operations.md` lists each variable.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from django.urls import reverse_lazy

from config.env import (
    env_bool,
    env_choice,
    env_int,
    env_list,
    env_list_of_secrets,
    env_pairs,
    env_str,
    secret_or_generated,
)

AVIARY_VERSION = "0.1.0"

BASE_DIR = Path(__file__).resolve().parent.parent
AVIARY_HOME = Path(env_str("AVIARY_HOME", str(BASE_DIR / "var" / "server"))).resolve()
AVIARY_HOME.mkdir(parents=True, exist_ok=True)

DEBUG = env_bool("DEBUG", False)
SECRET_KEY = secret_or_generated("SECRET_KEY", AVIARY_HOME / "secret_key")
SECRET_KEY_FROM_ENVIRONMENT = bool(env_str("SECRET_KEY"))
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1],testserver")
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS")

# --- Aviary -----------------------------------------------------------------------------------
AVIARY_KEYS_DIR = Path(env_str("AVIARY_KEYS_DIR", str(AVIARY_HOME / "keys")))
AVIARY_SIGNER = env_str("AVIARY_SIGNER")  # the signing service's socket; empty signs in-process
AVIARY_PUBLIC_URL = env_str("AVIARY_PUBLIC_URL").rstrip("/")
AVIARY_POLL_SECONDS = env_int("AVIARY_POLL_SECONDS", 300, minimum=1)
#: Unchanged answers that each web process remembers, about 300 bytes each.
AVIARY_POLL_MEMORY = env_int("AVIARY_POLL_MEMORY", 1_000_000, minimum=2)
AVIARY_WINDOW_SECONDS = env_int("AVIARY_WINDOW_SECONDS", 3600, minimum=1)
#: How often devices send what they counted; 0 has them send their records and count nothing.
AVIARY_SUMMARY_SECONDS = env_int("AVIARY_SUMMARY_SECONDS", 0)
AVIARY_TICK_SECONDS = env_int("AVIARY_TICK_SECONDS", 10, minimum=1)
AVIARY_OFFER_TIMEOUT_SECONDS = env_int("AVIARY_OFFER_TIMEOUT_SECONDS", 3600, minimum=1)
AVIARY_URL_TTL_SECONDS = env_int("AVIARY_URL_TTL_SECONDS", 900, minimum=10)
AVIARY_JOBS_AT_ONCE = env_int("AVIARY_JOBS_AT_ONCE", 1, minimum=1)
AVIARY_JOB_HEARTBEAT_SECONDS = env_int("AVIARY_JOB_HEARTBEAT_SECONDS", 5, minimum=1)
AVIARY_JOB_LOST_SECONDS = env_int("AVIARY_JOB_LOST_SECONDS", 60, minimum=2)
AVIARY_JOB_SWEEP_SECONDS = env_int("AVIARY_JOB_SWEEP_SECONDS", 30, minimum=1)
AVIARY_ANCHOR_SECONDS = env_int("AVIARY_ANCHOR_SECONDS", 900, minimum=10)
AVIARY_BODY_SECONDS = env_int("AVIARY_BODY_SECONDS", 15, minimum=1)
AVIARY_DATABASE_SECONDS = env_int("AVIARY_DATABASE_SECONDS", 60, minimum=1)
#: Calls in a minute, by device or, for what has none yet, by address; 0 is no limit.
AVIARY_QUOTAS = {
    "enrol": env_int("AVIARY_QUOTA_ENROL", 300),
    "login": env_int("AVIARY_QUOTA_LOGIN", 30),
    "login_audit": env_int("AVIARY_QUOTA_LOGIN_AUDIT", 60, minimum=1),
    "ingest": env_int("AVIARY_QUOTA_INGEST", 600),
    "telemetry": env_int("AVIARY_QUOTA_TELEMETRY", 120),
    "events": env_int("AVIARY_QUOTA_EVENTS", 600),
    "samples": env_int("AVIARY_QUOTA_SAMPLES", 120),
}
#: Days for which rows are kept, by table; 0 for ever. The page Storage lists every table.
AVIARY_KEEP_DAYS = {
    # Records may come a week late: their batch must still be known then, and their window there.
    "inbox": env_int("AVIARY_KEEP_INBOX_DAYS", 14, minimum=8),
    "windows": env_int("AVIARY_KEEP_WINDOWS_DAYS", 30, minimum=8),
    "summaries": env_int("AVIARY_KEEP_SUMMARIES_DAYS", 14, minimum=9),
    "telemetry": env_int("AVIARY_KEEP_TELEMETRY_DAYS", 14),
    "evaluations": env_int("AVIARY_KEEP_EVALUATIONS_DAYS", 180),
    "gate_evaluations": env_int("AVIARY_KEEP_GATE_EVALUATIONS_DAYS", 180),
    "incidents": env_int("AVIARY_KEEP_INCIDENTS_DAYS", 730),
    "device_incidents": env_int("AVIARY_KEEP_DEVICE_INCIDENTS_DAYS", 180),
    "installation_events": env_int("AVIARY_KEEP_INSTALLATION_EVENTS_DAYS", 365),
    "sessions": env_int("AVIARY_KEEP_SESSIONS_DAYS", 1),
    "api_tokens": env_int("AVIARY_KEEP_API_TOKENS_DAYS", 30),
    "page_log": env_int("AVIARY_KEEP_PAGE_LOG_DAYS", 365),
}
AVIARY_METRICS_ADDRESS = env_str("AVIARY_METRICS_ADDRESS")  # host:port of a worker or the clock
AVIARY_METRICS_TOKEN = env_str("AVIARY_METRICS_TOKEN")  # of Prometheus; without it, no /metrics
AVIARY_TRUSTED_PROXIES = env_int("AVIARY_TRUSTED_PROXIES", 0)
AVIARY_MAX_UPLOAD_BYTES = env_int("AVIARY_MAX_UPLOAD_BYTES", 2 * 1024**3, minimum=1)
AVIARY_DELTA_MAX_BYTES = env_int("AVIARY_DELTA_MAX_BYTES", 128 * 1024**2, minimum=0)
AVIARY_INGEST_MAX_BYTES = env_int("AVIARY_INGEST_MAX_BYTES", 1024**2, minimum=1024)
AVIARY_INGEST_MAX_RECORDS = env_int("AVIARY_INGEST_MAX_RECORDS", 5000, minimum=1)
AVIARY_ALLOWED_WEBHOOK_PRIVATE = env_bool("AVIARY_ALLOWED_WEBHOOK_PRIVATE", False)
AVIARY_NOTIFICATION_DAYS = env_int("AVIARY_NOTIFICATION_DAYS", 30, minimum=1)
#: What encrypts the secrets of channels; the first one encrypts, all of them decrypt.
AVIARY_SECRETS_KEYS = env_list_of_secrets("AVIARY_SECRETS_KEY") or [SECRET_KEY]
AVIARY_PROMETHEUS_URL = env_str("AVIARY_PROMETHEUS_URL").rstrip("/")
AVIARY_PROMETHEUS_PRIVATE = env_bool("AVIARY_PROMETHEUS_PRIVATE", False)
AVIARY_PROMETHEUS_TIMEOUT_SECONDS = env_int("AVIARY_PROMETHEUS_TIMEOUT_SECONDS", 5, minimum=1)

# --- Django -----------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
    "rest_framework",
    "knox",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_htmx",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "config.apps.ConfigConfig",
    "registry.apps.RegistryConfig",
    "fleet.apps.FleetConfig",
    "ingest.apps.IngestConfig",
    "compression.apps.CompressionConfig",
    "notifications.apps.NotificationsConfig",
]

MIDDLEWARE = [
    "config.middleware.RequestIdMiddleware",
    "config.middleware.StoreFailureMiddleware",
    "config.queries.QueryMiddleware",
    "config.middleware.SignInQuotaMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "config.sign_in.second_factor.SecondFactorMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
# Device addresses have no trailing slash; a redirect would drop a POST's body.
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "config" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.sign_in.context.sign_in_context",
            ]
        },
    }
]

# --- Database ---------------------------------------------------------------------------------
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
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis or Valkey, Celery ------------------------------------------------------------------
REDIS_URL = env_str("REDIS_URL")
CACHES = {
    "default": (
        {"BACKEND": "config.stores.valkey_cache.ValkeyCache", "LOCATION": REDIS_URL}
        if REDIS_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "aviary"}
    )
}
CELERY_BROKER_URL = REDIS_URL or "memory://"
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ALWAYS_EAGER = env_bool("CELERY_TASK_ALWAYS_EAGER", False)
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_SOFT_TIME_LIMIT = 120
CELERY_TASK_TIME_LIMIT = 180
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_DEFAULT_QUEUE = "default"
# What waits in one queue holds up no other; `docs/operations.md` says who works on which.
CELERY_TASK_ROUTES = {
    "fleet.tasks.tick_rollouts": {"queue": "ticks"},
    "fleet.tasks.flush_polls": {"queue": "ticks"},
    "ingest.tasks.push_evidence": {"queue": "ticks"},
    "ingest.tasks.evaluate_drift": {"queue": "drift"},
    "ingest.tasks.*": {"queue": "ingest"},
    "fleet.tasks.build_calibration": {"queue": "samples"},
    "compression.tasks.run_job": {"queue": "compression"},
    "notifications.tasks.*": {"queue": "notify"},
}
# A broker that hangs costs a call seconds, once; what was not sent, a sweep sends.
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {"socket_connect_timeout": 2, "socket_timeout": 10} if REDIS_URL else {}
)
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_TIMEZONE = "UTC"
# A tick that could not run before the next one is due is worth nothing: it expires.
_EVERY_TICK = {"schedule": AVIARY_TICK_SECONDS, "options": {"expires": AVIARY_TICK_SECONDS}}
CELERY_BEAT_SCHEDULE = {
    "tick-rollouts": {"task": "fleet.tasks.tick_rollouts", **_EVERY_TICK},
    "recount-rollouts": {"task": "fleet.tasks.recount_rollouts", **_EVERY_TICK},
    "flush-polls": {"task": "fleet.tasks.flush_polls", **_EVERY_TICK},
    "aggregate-inbox": {"task": "ingest.tasks.aggregate_inbox", **_EVERY_TICK},
    "count-summaries": {"task": "ingest.tasks.count_summaries", **_EVERY_TICK},
    "push-evidence": {"task": "ingest.tasks.push_evidence", **_EVERY_TICK},
    "evaluate-drift": {"task": "ingest.tasks.evaluate_drift", **_EVERY_TICK},
    "sweep-versions": {"task": "registry.tasks.sweep_versions", "schedule": 30},
    "sweep-samples": {"task": "fleet.tasks.sweep_samples", "schedule": 60},
    "sweep-jobs": {
        "task": "compression.tasks.sweep_jobs",
        "schedule": AVIARY_JOB_SWEEP_SECONDS,
        "options": {"expires": AVIARY_JOB_SWEEP_SECONDS},
    },
    "anchor-audit": {
        "task": "registry.tasks.anchor_audit",
        "schedule": AVIARY_ANCHOR_SECONDS,
        "options": {"expires": AVIARY_ANCHOR_SECONDS},
    },
    "renew-trust": {"task": "registry.tasks.renew_trust", "schedule": 60},
    "make-deltas": {"task": "registry.tasks.make_deltas", **_EVERY_TICK},
    "note-tick": {"task": "config.tasks.note_tick", **_EVERY_TICK},
    "prune": {"task": "config.tasks.prune", "schedule": 600, "options": {"expires": 600}},
    "collect-garbage": {
        "task": "registry.tasks.collect_garbage",
        "schedule": 3600,
        "options": {"expires": 3600},
    },
    "drop-abandoned-uploads": {
        "task": "registry.tasks.drop_abandoned_uploads",
        "schedule": 3600,
    },
    "route-events": {"task": "notifications.tasks.route_events", **_EVERY_TICK},
    "prune-events": {"task": "notifications.tasks.prune_events", "schedule": 600},
}

# --- Files ------------------------------------------------------------------------------------
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
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# --- People -----------------------------------------------------------------------------------
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
AUTH_PASSWORD_VALIDATORS.append({"NAME": "config.people.PasswordWatch"})
LOGIN_URL = reverse_lazy("account_login")
LOGIN_REDIRECT_URL = reverse_lazy("admin:index")
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
SESSION_COOKIE_AGE = 3600 * env_int("AVIARY_SESSION_HOURS", 12, minimum=1)
ACCOUNT_ADAPTER = "config.sign_in.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_UNIQUE_EMAIL = False  # an address opens no account; names do
ACCOUNT_SESSION_REMEMBER = True  # each session ends after AVIARY_SESSION_HOURS, and not before
ACCOUNT_LOGOUT_REDIRECT_URL = LOGIN_URL
# Tries that fail lock the name out for five minutes; how many calls an address has is a quota.
ACCOUNT_RATE_LIMITS = {"login": False, "login_failed": "5/5m/key"}
MFA_ADAPTER = "config.sign_in.adapters.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "Aviary"
#: Roles that need a second factor; `everybody` is all people.
AVIARY_MFA_ROLES = env_list("AVIARY_MFA_ROLES")
AVIARY_OIDC_URL = env_str("AVIARY_OIDC_URL").rstrip("/")
AVIARY_OIDC_NAME = env_str("AVIARY_OIDC_NAME", "single sign-on")
AVIARY_OIDC_GROUPS_CLAIM = env_str("AVIARY_OIDC_GROUPS_CLAIM", "groups")
AVIARY_OIDC_ROLES = env_pairs("AVIARY_OIDC_ROLES")  # their group=our role
#: Where its sign-in page may be, beside the address above.
AVIARY_OIDC_ORIGINS = env_list("AVIARY_OIDC_ORIGINS")
if AVIARY_OIDC_URL:
    AVIARY_OIDC_ORIGINS.append("{0.scheme}://{0.netloc}".format(urlsplit(AVIARY_OIDC_URL)))
SOCIALACCOUNT_ADAPTER = "config.sign_in.adapters.SingleSignOnAdapter"
SOCIALACCOUNT_ONLY = False
SOCIALACCOUNT_AUTO_SIGNUP = True
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_PROVIDERS: dict[str, Any] = {"openid_connect": {"OAUTH_PKCE_ENABLED": True}}
if AVIARY_OIDC_URL:
    SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"] = [
        {
            "provider_id": "sso",
            "name": AVIARY_OIDC_NAME,
            "client_id": env_str("AVIARY_OIDC_CLIENT_ID"),
            "secret": env_str("AVIARY_OIDC_CLIENT_SECRET"),
            "settings": {"server_url": AVIARY_OIDC_URL},
        }
    ]
LANGUAGE_CODE = "en-gb"
TIME_ZONE = env_str("TIME_ZONE", "UTC")
USE_I18N = True
USE_TZ = True

# --- E-mail -----------------------------------------------------------------------------------
EMAIL_HOST = env_str("EMAIL_HOST", "localhost")
EMAIL_PORT = env_int("EMAIL_PORT", 25, minimum=1)
EMAIL_HOST_USER = env_str("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env_str("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = env_bool("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env_str("DEFAULT_FROM_EMAIL", "aviary@localhost")

# --- API --------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "config.token_auth.ScopedTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "config.pagination.KeysetPagination",
    "DEFAULT_PARSER_CLASSES": ["registry.api.parsers.CheckedJSONParser"],
    "EXCEPTION_HANDLER": "config.api.exception_handler",
    "PAGE_SIZE": 50,
}
KNOX_TOKEN_MODEL = "knox.AuthToken"  # noqa: S105  (the name of a table)
AVIARY_PUBLIC_API_DOCS = env_bool("AVIARY_PUBLIC_API_DOCS", False)
REST_KNOX = {"TOKEN_TTL": timedelta(days=env_int("AVIARY_API_TOKEN_DAYS", 90, minimum=1))}
SPECTACULAR_SETTINGS = {
    "TITLE": "Aviary",
    "DESCRIPTION": "Model registry and fleet control plane for edge AI.",
    "VERSION": AVIARY_VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": [
        f"rest_framework.permissions.{'AllowAny' if AVIARY_PUBLIC_API_DOCS else 'IsAuthenticated'}"
    ],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.schema.document_errors",
    ],
    # The page's own scripts, from the sidecar: nothing is fetched from elsewhere.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # Each status set under the name of what it belongs to.
    "ENUM_NAME_OVERRIDES": {
        "VersionStateEnum": "registry.states.VersionState",
        "RolloutStateEnum": "fleet.models.Rollout.State",
        "InstallationStateEnum": "fleet.models.Installation.State",
        "DeploymentStateEnum": "fleet.models.Deployment.State",
        "JobStateEnum": "compression.states.JobState",
        "DataSetKindEnum": "registry.models.DataSetKind",
        "IncidentKindEnum": "fleet.models.DeviceIncident.Kind",
        "IncidentStatusEnum": "ingest.models.incidents.IncidentStatus",
        "CalibrationBuildStateEnum": "fleet.models.CalibrationBuild.State",
        "ChannelKindEnum": "notifications.models.Channel.Kind",
        "DeliveryStateEnum": "notifications.models.Delivery.State",
        "EventLevelEnum": "notifications.models.Level",
    },
}

# --- Security ---------------------------------------------------------------------------------
AVIARY_HTTPS = env_bool("AVIARY_HTTPS", False)
if AVIARY_HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
# The theme's scripts (Alpine) evaluate the expressions of their own attributes; nothing inline
# runs, and nothing from elsewhere. A form may lead to the service that signs people in.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": [
            "'self'",
            "'unsafe-eval'",
            # The one inline script there is: on the form of a periodic task, by django-celery-beat.
            "'sha256-QE3U2xYF7B4J2ro1/9oxiKhaWCGW39gB7ocQ/xlD0bE='",
        ],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'", *AVIARY_OIDC_ORIGINS],
        "frame-ancestors": ["'none'"],
    }
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
        "json": {"()": "config.logs.JsonFormatter"},
    },
    "filters": {"storms": {"()": "config.logs.StormFilter"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": env_choice("LOG_FORMAT", ("plain", "json")),
            "filters": ["storms"],
        }
    },
    "root": {"handlers": ["stderr"], "level": env_str("LOG_LEVEL", "INFO")},
}

from config.unfold import UNFOLD  # noqa: E402, F401  (kept apart: it is long and only looks)
