"""SIGTERM means: the machine is wanted back; finish the step, save, and leave."""

import itertools
import signal
import threading
from typing import Self

import jax
from jax.experimental import multihost_utils

# How often all stages of this process have asked. JAX counts with it where each process is; a stage's own steps
# would not do, for they start again with the next stage.
_questions = itertools.count(1)


class PreemptedError(Exception):
    """Training was asked to stop and has saved its state; the same command goes on from there.

    `launch.py` exits with `exit_code`, the shell's code for a process that SIGTERM ended, so that a scheduler
    starts it again.
    """

    exit_code = 128 + signal.SIGTERM

    def __init__(self, stage_name: str, step: int) -> None:
        super().__init__(f'stage {stage_name} was asked to stop and has saved step {step}; the same command goes on '
                         'from there')


class Watch:
    """While entered, SIGTERM does not end the process, but is there to be asked for.

    With several processes it may reach only one of them. There JAX's preemption service, which `hosts.start`
    has started, takes the signal, tells the others and has all of them stop after the same step, about a second
    later. It takes it from `hosts.start` on, also outside of training, where nothing asks for it.

    Signals reach the main thread alone; entered elsewhere, a single process is never asked to stop.
    """

    def __init__(self) -> None:
        self.requested = False
        self._step: int | None = None

    def requested_at(self, step: int) -> bool:
        """Whether to stop after `step`; every process asks once after each step, in the same order.

        Asking again about the same step repeats the answer.
        """
        if jax.process_count() > 1 and step != self._step:
            self.requested = multihost_utils.reached_preemption_sync_point(next(_questions))
        self._step = step
        return self.requested

    def __enter__(self) -> Self:
        self._handles = jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
        if self._handles:
            self._previous = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, *error: object) -> None:
        if self._handles:
            signal.signal(signal.SIGTERM, self._previous)

    def _request(self, *_: object) -> None:
        self.requested = True
