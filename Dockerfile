# The control plane: web, workers and beat run the same image with different commands.
FROM python:3.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.txt /tmp/requirements.txt
RUN python -m venv /opt/aviary && /opt/aviary/bin/pip install -r /tmp/requirements.txt
# The agent's wheel, which `manage.py publish_agent` puts into the object store.
COPY edge_agent /src/edge_agent
RUN /opt/aviary/bin/python /src/edge_agent/packaging/build_wheel.py /opt/agent

FROM python:3.13-slim-bookworm
ENV PATH=/opt/aviary/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 AVIARY_HOME=/var/lib/aviary \
    AVIARY_STATIC_ROOT=/srv/aviary/static
RUN groupadd --system --gid 10001 aviary \
 && useradd --system --uid 10001 --gid aviary --home-dir /var/lib/aviary aviary \
 && useradd --system --uid 10004 --gid aviary --no-create-home aviary-signer \
 && install -d -o aviary -g aviary -m 0750 /var/lib/aviary \
 && install -d -o aviary-signer -g aviary -m 0700 /var/lib/aviary-keys \
 && install -d -o aviary-signer -g aviary -m 0750 /run/aviary-signer
COPY --from=build /opt/aviary /opt/aviary
WORKDIR /srv/aviary
COPY manage.py ./
COPY config config
COPY registry registry
COPY fleet fleet
COPY ingest ingest
COPY compression compression
COPY notifications notifications
COPY --from=build /opt/agent agent
# Beside the code, for a volume over AVIARY_HOME would go on showing an older image's files; and with
# a home that is thrown away, for a secret key is made there, which no image may hold.
RUN AVIARY_HOME=/tmp/build python manage.py collectstatic --noinput --verbosity 0 && rm -r /tmp/build
USER aviary
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["python", "-m", "config.serve", "--host", "0.0.0.0", "--port", "8000", "--workers", "2"]
