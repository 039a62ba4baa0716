"""Scalars to TensorBoard and to the history file. The only file here that brings in TensorFlow, through clu."""

import os
from typing import Self

import jax
from clu import metric_writers

from talkinghead_jax.train import history


class Reporter:
    """Writes the scalars of one stage to WORKDIR/logs/STAGE; only process 0 writes anything."""

    def __init__(self, workdir: str | os.PathLike, stage_name: str, first_step: int) -> None:
        """Go on after `first_step`; what an earlier run wrote beyond it is dropped from the history."""
        self._writes = jax.process_index() == 0
        if self._writes:
            self._history = history.path(workdir, stage_name)
            self._history.parent.mkdir(parents=True, exist_ok=True)
            history.rewind(self._history, first_step)
            self._events = metric_writers.SummaryWriter(str(self._history.parent))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Write named numbers under `step`."""
        if self._writes:
            history.append(self._history, step, scalars)
            self._events.write_scalars(step, scalars)

    def close(self) -> None:
        """Flush; nothing can be written afterwards."""
        if self._writes:
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
