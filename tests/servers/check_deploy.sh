#!/bin/sh
# `check --deploy` with the settings that docs/operations.md asks for in production.
set -eu
python=$1
export DEBUG=0 AVIARY_HTTPS=1 ALLOWED_HOSTS=aviary.example.org
export AVIARY_PUBLIC_URL=https://aviary.example.org
SECRET_KEY=$("$python" -c 'import secrets; print(secrets.token_urlsafe(64))')
export SECRET_KEY
export DATABASE_URL=postgres://aviary@127.0.0.1:5432/aviary REDIS_URL=redis://127.0.0.1:6379/0
exec "$python" manage.py check --deploy --fail-level WARNING
