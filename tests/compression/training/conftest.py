"""Every test of training runs with each engine that is installed here."""

import importlib.util

import pytest

from compression.engine.training import requirement


@pytest.fixture(
    params=[name for name in requirement.ENGINES if importlib.util.find_spec(name)], autouse=True
)
def engine_name(request, monkeypatch):
    """The engine that is found, as if no other were installed."""
    only = {request.param: requirement.ENGINES[request.param]}
    monkeypatch.setattr(requirement, "ENGINES", only)
    return request.param
