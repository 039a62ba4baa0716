"""SIGTERM means: the machine is wanted back; finish the step, save, and leave."""

import signal
import threading
from typing import Self


class PreemptedError(Exception):
    """Training was asked to stop and has saved its state; the same command goes on from there.

    `launch.py` exits with `exit_code`, the shell's code for a process that SIGTERM ended, so that a scheduler
    starts it again.
    """

    exit_code = 128 + signal.SIGTERM


class Watch:
    """While entered, SIGTERM only sets `requested`.

    Signals reach the main thread alone; elsewhere `requested` stays False.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        if self._in_main_thread:
            self._previous = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, *error: object) -> None:
        if self._in_main_thread:
            signal.signal(signal.SIGTERM, self._previous)

    def _request(self, *_: object) -> None:
        self.requested = True
