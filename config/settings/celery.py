"""The broker, who works on which queue, and what the clock starts."""

from config.env import env_bool
from config.settings.intervals import (
    AVIARY_ANCHOR_SECONDS,
    AVIARY_JOB_SWEEP_SECONDS,
    AVIARY_TICK_SECONDS,
)
from config.settings.storage import REDIS_URL

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
    "compact-rollups": {"task": "ingest.tasks.compact_rollups", "schedule": 60},
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
