"""The agent inside another program: the release that is committed answers, the rest goes by itself.

Polling, installing, rolling back and uploading run in a thread of their own, as in
`aviary-agent run`; one process holds a home, so this takes that command's place.
"""

import logging
import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edge_agent.agent import Agent
from edge_agent.config import Config, load_config
from edge_agent.exceptions import AgentError
from edge_agent.releases.state import HomeLock, Layout
from edge_agent.run import Runner
from edge_agent.serving.serving import Answer

if TYPE_CHECKING:
    from edge_agent.inference.session import Inputs

logger = logging.getLogger(__name__)


class Runtime:
    """Answers from the best verified release; safe to use from several threads."""

    def __init__(self, config: Config) -> None:
        """Takes the home, loads what is committed there and starts to keep in sync.

        Raises:
            LockedError: another process holds the home.
            ConfigurationError: the local endpoint is enabled and cannot listen.
        """
        self._lock = HomeLock(Layout(config.home).lock)
        self._lock.__enter__()
        try:
            self._agent = Agent(config)
            self._runner = Runner(self._agent)
            self._runner.prepare()
        except BaseException:
            self._lock.__exit__()
            raise
        self._thread = threading.Thread(target=self._runner.loop, name="agent", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Runtime":
        """A runtime with the settings of a TOML file, as `aviary-agent --config` takes."""
        return cls(load_config(path))

    def infer(self, inputs: "Inputs", *, model: str = "") -> Answer:
        """The answer of `model`'s current release to one sample; it is recorded and uploaded.

        Args:
            inputs: the preprocessed tensor of the first input, or one per input name, with the
                batch axis.
            model: a slug, or the adaptive pair's name; empty takes the pair, else the only model.

        Raises:
            InputError: the inputs are none that the model takes.
            NoModelError: no release of the model runs yet.
            InferenceError: the runtime failed; counted against the release.
        """
        return self._runner.serving.infer(inputs, model=model, checks_inputs=True)

    def wait_for_model(self, model: str = "", *, timeout_s: float) -> bool:
        """Waits until a release of `model` runs; False when none did in time."""
        waiting = threading.Event()
        waited_s = 0.0
        while True:
            try:
                self._runner.serving.find_session(model)
                return True
            except AgentError:
                if waited_s >= timeout_s:
                    return False
            waiting.wait(0.05)
            waited_s += 0.05

    def status(self) -> dict[str, Any]:
        """What runs, what was blocked and why, the spool and the providers."""
        from edge_agent.status import describe_state

        self._runner.write_runtime()
        return describe_state(self._agent.config)

    def close(self) -> None:
        """Ends the threads, sends what it can in one try, and frees the home."""
        self._agent.stopping.set()
        self._thread.join()
        self._agent.close()
        self._lock.__exit__()

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
