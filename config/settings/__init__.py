"""All settings, read from the environment here and nowhere else; one module a subject.

With nothing set, everything runs embedded: SQLite, files and an in-process cache below
`AVIARY_HOME`. `docs/operations.md` lists each variable.
"""

# ruff: noqa: F403  (Django reads every setting from this one module.)

from config.settings.api import *
from config.settings.base import *
from config.settings.celery import *
from config.settings.intervals import *
from config.settings.limits import *
from config.settings.notifications import *
from config.settings.observability import *
from config.settings.people import *
from config.settings.security import *
from config.settings.storage import *
from config.unfold import UNFOLD as UNFOLD
