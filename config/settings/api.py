"""The management API: who may call, its pages and its schema."""

from datetime import timedelta

from config.env import env_bool, env_int
from config.settings.base import AVIARY_VERSION

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
