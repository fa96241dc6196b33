"""A model file with the sessions opened on it, so that each kind is opened once."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import onnxruntime as ort

from compression.exceptions import ModelUnsupportedError
from compression.measure.kernels.computing import ComputingSession, needs_computing
from compression.measure.sessions import open_session


@dataclass
class OpenModel:
    """A file that does not change while this is held.

    `threads` are those of everything but latency.
    """

    path: Path
    threads: int = 1
    _sessions: dict[int, ort.InferenceSession] = field(default_factory=dict, repr=False)
    _computing: dict[bool, Any] = field(default_factory=dict, repr=False)

    def session(self, threads: int | None = None) -> ort.InferenceSession:
        """ONNX Runtime's own session with that many threads."""
        wanted = threads or self.threads
        if wanted not in self._sessions:
            self._sessions[wanted] = open_session(self.path, threads=wanted)
        return self._sessions[wanted]

    @cached_property
    def exact_fault(self) -> str:
        """Why sums of 32 bits cannot be had on this machine; empty where they can."""
        try:
            self.kernels(is_saturating=False)
        except ModelUnsupportedError as error:
            return str(error)
        return ""

    def kernels(self, *, is_saturating: bool) -> ort.InferenceSession | ComputingSession:
        """A session whose INT8 sums have 16 bits with saturation, or 32 bits.

        It is ONNX Runtime's own where this machine's kernels do that, or the model does not care.

        Raises:
            ModelUnsupportedError: sums of an operator that is not computed here.
        """
        if is_saturating not in self._computing:
            self._computing[is_saturating] = (
                ComputingSession(self.session(), self.path, self.threads, is_saturating)
                if needs_computing(self.path, is_saturating=is_saturating)
                else self.session()
            )
        return self._computing[is_saturating]
