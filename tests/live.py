"""A running server for tests from the outside: web server, worker and one published model."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from demo.client import Api
from demo.narration import Narrator
from demo.stack import Stack
from demo.story import CHAPTERS, Story
from servers.processes import free_port
from tests.databases import make_database

_STORES = (
    "S3_ENDPOINT_URL", "AVIARY_S3_BUCKET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
)  # fmt: skip
#: Redis databases out of reach of the parallel workers; one for each kind of live server, since
#: two of them may be up at once.
REDIS_DATABASES = {
    "restore": 54,
    "front": 55,
    "hanging": 56,
    "poison": 57,
    "finds": 58,
    "kills": 59,
    "counting": 49,
    "workers": 60,
    "deltas": 61,
    "browser": 62,
    "pages": 53,
    "starvation": 50,
    "compression": 52,
    "contract": 63,
    "client": 51,
    "nginx": 49,
    "guides": 48,
}


@dataclass(frozen=True)
class LiveServer:
    """What a test from the outside may use."""

    stack: Stack
    api: Api
    story: Story


@contextmanager
def running_server(
    home: Path, kind: str, changes: Mapping[str, str] | None = None
) -> Iterator[LiveServer]:
    """The stack on the servers that the environment names; on SQLite and files without any.

    Args:
        home: an empty folder for what it writes.
        kind: a key of `REDIS_DATABASES`; each kind has databases of its own.
        changes: environment variables of the server; in an address, `{name}` is the name of its
            database.
    """
    services = {name: os.environ[name] for name in _STORES if name in os.environ}
    if "REDIS_URL" in os.environ:
        parts = urlsplit(os.environ["REDIS_URL"])
        services["REDIS_URL"] = urlunsplit(parts._replace(path=f"/{REDIS_DATABASES[kind]}"))
    if "DATABASE_URL" in os.environ:
        services["DATABASE_URL"] = make_database(os.environ["DATABASE_URL"], f"aviary_live_{kind}")
        services["WHITENOISE_USE_FINDERS"] = "1"
    for name, value in (changes or {}).items():
        database = urlsplit(services.get(name, "")).path.lstrip("/")
        services[name] = value.replace("{name}", database)
    stack = Stack(home, services, port=free_port())
    story: Story | None = None
    try:
        stack.start()
        api = Api(stack.url, stack.token)
        story = Story(api, home / "agents", Narrator(CHAPTERS))
        yield LiveServer(stack, api, story)
    finally:
        if story is not None:
            story.stop()
        stack.stop()
