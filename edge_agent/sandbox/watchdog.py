"""Ends a guest's call when its time is over, wherever it is: in the guest or in the runtime.

One sleeping thread per sandbox. It costs a call two plain assignments under a lock, and wakes a few
times a second under traffic and never without, which a timer per call would not do.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

LINGER_S = 0.05
"""How late a deadline may be noticed, and how long the thread stays awake after the last call."""


class Watchdog:
    def __init__(self, interrupt: Callable[[], None]) -> None:
        """`interrupt` makes the guest trap; it is called from the watchdog's thread."""
        self._interrupt = interrupt
        self._condition = threading.Condition(threading.Lock())
        self._deadline: float | None = None
        self._calls = 0
        self._is_asleep = False
        self._is_closed = False
        self._run_options: Any = None
        self.is_over = False
        """True once the time of the call that was started last is over."""
        threading.Thread(target=self._watch, name="guest-watchdog", daemon=True).start()

    def close(self) -> None:
        with self._condition:
            self._is_closed = True
            self._condition.notify()

    def start(self, timeout_s: float) -> None:
        with self._condition:
            self._deadline = time.monotonic() + timeout_s
            self._calls += 1
            self.is_over = False
            if self._is_asleep:
                self._condition.notify()

    def stop(self) -> None:
        # Under the lock: an interrupt is either made before this, or never for this call.
        with self._condition:
            self._deadline = None

    def attach(self, run_options: Any) -> bool:
        """Binds a run of ONNX Runtime to the call; False when its time is over already.

        A guest's own deadline does not count while the host works for it.
        """
        with self._condition:
            self._run_options = run_options
            return not self.is_over

    def detach(self) -> None:
        with self._condition:
            self._run_options = None

    def _watch(self) -> None:
        with self._condition:
            while not self._is_closed:
                if self._deadline is None:
                    self._rest()
                    continue
                left = self._deadline - time.monotonic()
                if left > 0:
                    self._condition.wait(left)
                    continue
                self._deadline, self.is_over = None, True
                if self._run_options is not None:
                    self._run_options.terminate = True
                self._interrupt()

    def _rest(self) -> None:
        calls = self._calls
        self._condition.wait(LINGER_S)
        if self._deadline is None and self._calls == calls and not self._is_closed:
            self._is_asleep = True
            self._condition.wait()
            self._is_asleep = False
