"""How often things happen, and how long they may take."""

from config.env import env_int

AVIARY_POLL_SECONDS = env_int("AVIARY_POLL_SECONDS", 300, minimum=1)
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
