"""The launcher of the test servers: what it starts, it ends, whatever happens to it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from servers.patience import wait_for
from servers.processes import is_listening

ROOT = Path(__file__).resolve().parents[2]
SET_HERE = {"REDIS_URL": "redis://127.0.0.1:1/0", "S3_ENDPOINT_URL": "http://127.0.0.1:1"}


def launch(code: str, **environment: str) -> subprocess.Popen[str]:
    """The launcher around a Python one-liner; only what `environment` leaves unset is started."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL", "AVIARY_HOME")
    }
    return subprocess.Popen(
        [sys.executable, "-m", "servers", "--", sys.executable, "-c", code],
        cwd=ROOT,
        env={**clean, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_server_that_is_named_already_is_not_started():
    url = "postgres://elsewhere/db"
    process = launch("import os; print(os.environ['DATABASE_URL'])", DATABASE_URL=url, **SET_HERE)
    out, _ = process.communicate()
    assert out.strip() == url


def test_the_exit_status_of_the_command_is_passed_on():
    process = launch("raise SystemExit(7)", DATABASE_URL="postgres://elsewhere/db", **SET_HERE)
    process.communicate()
    assert process.returncode == 7


def test_postgresql_answers_and_runs_unprivileged():
    code = (
        "import os, psycopg; c = psycopg.connect(os.environ['DATABASE_URL']); "
        "print(c.execute('select 40 + 2').fetchone()[0], os.stat(os.environ['DATABASE_URL']"
        ".split('@')[1].split('/')[0].replace('%2F', '/')).st_uid)"
    )
    out, error = launch(code, **SET_HERE).communicate()
    assert out.split()[:1] == ["42"], error
    assert out.split()[1] != "0"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_nothing_outlives_a_launcher_that_is_ended(number: int):
    code = (
        "import os, time; from urllib.parse import urlsplit; "
        "print(urlsplit(os.environ['REDIS_URL']).port, flush=True); time.sleep(900)"
    )
    process = launch(
        code, DATABASE_URL="postgres://elsewhere/db", S3_ENDPOINT_URL=SET_HERE["S3_ENDPOINT_URL"]
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    assert is_listening(port)
    process.send_signal(number)
    process.communicate()
    wait_for(lambda: not is_listening(port), "Valkey's end")
