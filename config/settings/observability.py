"""Logs, the metrics served, and the Prometheus that gates may ask."""

from config.env import env_bool, env_choice, env_int, env_str

AVIARY_METRICS_ADDRESS = env_str("AVIARY_METRICS_ADDRESS")  # host:port of a worker or the clock
AVIARY_METRICS_TOKEN = env_str("AVIARY_METRICS_TOKEN")  # of Prometheus; without it, no /metrics
AVIARY_PROMETHEUS_URL = env_str("AVIARY_PROMETHEUS_URL").rstrip("/")
AVIARY_PROMETHEUS_PRIVATE = env_bool("AVIARY_PROMETHEUS_PRIVATE", False)
AVIARY_PROMETHEUS_TIMEOUT_SECONDS = env_int("AVIARY_PROMETHEUS_TIMEOUT_SECONDS", 5, minimum=1)

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
