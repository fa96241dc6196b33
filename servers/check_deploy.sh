#!/bin/sh
# `check --deploy` with the settings that docs/operations.md asks for in production.
# Run it below `python -m servers`, which names the three stores.
set -eu
python=$1
export DEBUG=0 AVIARY_HTTPS=1 ALLOWED_HOSTS=aviary.example.org
export AVIARY_SIGNER=/run/aviary-signer/signer.sock
export AVIARY_PUBLIC_URL=https://aviary.example.org
SECRET_KEY=$("$python" -c 'import secrets; print(secrets.token_urlsafe(64))')
export SECRET_KEY
# The check of the API's schema asks the database.
"$python" manage.py migrate --noinput --verbosity 0
exec "$python" manage.py check --deploy --fail-level WARNING
