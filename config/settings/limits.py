"""How much is taken in, how often a caller may call, and how long rows are kept."""

from config.env import env_int

AVIARY_BODY_SECONDS = env_int("AVIARY_BODY_SECONDS", 15, minimum=1)
AVIARY_MAX_UPLOAD_BYTES = env_int("AVIARY_MAX_UPLOAD_BYTES", 2 * 1024**3, minimum=1)
AVIARY_DELTA_MAX_BYTES = env_int("AVIARY_DELTA_MAX_BYTES", 128 * 1024**2, minimum=0)
AVIARY_INGEST_MAX_BYTES = env_int("AVIARY_INGEST_MAX_BYTES", 1024**2, minimum=1024)
AVIARY_INGEST_MAX_RECORDS = env_int("AVIARY_INGEST_MAX_RECORDS", 5000, minimum=1)
#: Unchanged answers that each web process remembers, about 300 bytes each.
AVIARY_POLL_MEMORY = env_int("AVIARY_POLL_MEMORY", 1_000_000, minimum=2)
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
AVIARY_TRUSTED_PROXIES = env_int("AVIARY_TRUSTED_PROXIES", 0)
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
    "rollups": env_int("AVIARY_KEEP_ROLLUPS_DAYS", 90, minimum=9),
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
