"""How people and programs are told: e-mail, and what webhooks may reach."""

from config.env import env_bool, env_int, env_list_of_secrets, env_str
from config.settings.base import SECRET_KEY

AVIARY_ALLOWED_WEBHOOK_PRIVATE = env_bool("AVIARY_ALLOWED_WEBHOOK_PRIVATE", False)
AVIARY_NOTIFICATION_DAYS = env_int("AVIARY_NOTIFICATION_DAYS", 30, minimum=1)
#: What encrypts the secrets of channels; the first one encrypts, all of them decrypt.
AVIARY_SECRETS_KEYS = env_list_of_secrets("AVIARY_SECRETS_KEY") or [SECRET_KEY]

EMAIL_HOST = env_str("EMAIL_HOST", "localhost")
EMAIL_PORT = env_int("EMAIL_PORT", 25, minimum=1)
EMAIL_HOST_USER = env_str("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env_str("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = env_bool("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env_str("DEFAULT_FROM_EMAIL", "aviary@localhost")
