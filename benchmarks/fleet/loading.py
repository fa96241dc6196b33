"""Devices by the million, written by PostgreSQL itself in a few statements."""

from __future__ import annotations

from django.db import connection

SITES = 200
MODELS_OF_BOARD = ("jetson", "rk3588", "pi5", "x86")
_CHUNK = 100_000


def device_id(number: int) -> str:
    """The id of the device with this number, from 1."""
    return f"bench-{number:07d}"


def token_of(number: int) -> str:
    """The bearer token of the device with this number."""
    return f"avd_bench_{number}"


def load_devices(count: int) -> None:
    """`count` accepted devices with credentials: 200 sites, 4 kinds of hardware, 5 agent versions.

    Their primary keys are their numbers; the tables must be empty.
    """
    with connection.cursor() as cursor:
        for first in range(1, count + 1, _CHUNK):
            last = min(first + _CHUNK - 1, count)
            cursor.execute(_DEVICES, [list(MODELS_OF_BOARD), SITES, first, last])
            cursor.execute(_CREDENTIALS, [first, last])
        for table in ("fleet_device", "fleet_devicecredential"):
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), %s)", [max(count, 1)]
            )
        # What autovacuum does in time.
        cursor.execute("VACUUM (ANALYZE) fleet_device")
        cursor.execute("VACUUM (ANALYZE) fleet_devicecredential")


_DEVICES = """
INSERT INTO fleet_device (
    id, device_id, status, labels, attributes, capabilities, agent_version, is_sampling_allowed,
    generation, quarantined, pins, running, trouble, poll_count, last_seen_at, created_at,
    updated_at)
SELECT n, 'bench-' || lpad(n::text, 7, '0'), 'accepted',
    CASE WHEN n %% 10 = 0 THEN '{"ring": "early"}'::jsonb ELSE '{}'::jsonb END,
    jsonb_build_object('hardware', (%s::text[])[1 + n %% 4], 'site', 'site-' || n %% %s),
    '{"arch": "x86_64", "providers": ["cpu"], "memory_mb": 4096}'::jsonb,
    '1.' || n %% 5 || '.0', false, 0, '[]'::jsonb, '{}'::jsonb, '{}'::jsonb, '{}'::jsonb, 0,
    now() - n %% 3600 * interval '1 second', now(), now()
FROM generate_series(%s, %s) AS n
"""
_CREDENTIALS = """
INSERT INTO fleet_devicecredential (id, device_id, digest, nonce_digest, created_at)
SELECT n, n, encode(sha256(('avd_bench_' || n)::bytea), 'hex'), '', now()
FROM generate_series(%s, %s) AS n
"""
