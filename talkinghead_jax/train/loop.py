"""The one train loop: get a batch, step, report, save. Everything else has its own file."""

import functools
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from ml_collections import ConfigDict

from talkinghead_jax.errors import UserError
from talkinghead_jax.stages.base import Stage
from talkinghead_jax.train import checkpoint, preemption, prefetch, sharding
from talkinghead_jax.train.state import TrainState, create
from talkinghead_jax.train.step import train_step

Batches = Callable[[int], Iterator[Mapping[str, np.ndarray]]]


class NotFiniteError(UserError):
    """A loss or a gradient became infinite or not a number."""


def train(stage: Stage, config: ConfigDict, frozen: Mapping[str, Any], make_batches: Batches,
          workdir: str | os.PathLike, *, steps: int | None = None, initial: dict[str, Any] | None = None,
          progress: bool = True, layout: sharding.Layout | None = None) -> TrainState:
    """Train `stage` from its latest checkpoint in `workdir`, or from the start, to `steps`.

    Args:
      stage: what is trained.
      config: the whole config; reads seed, log, parallel and config.STAGE.
      frozen: arrays that the stage reads but does not train; the dataset's metadata among them are saved along.
      make_batches: first step -> endless iterator of this process's batches (numpy) from that step on.
      workdir: checkpoints and logs go to its subfolders of those names.
      steps: step to end at; default config.STAGE.steps. Already there, this returns without compiling.
      initial: for fine-tuning, weights to start from instead of random ones; see `state.create`.
      progress: whether to show a progress bar.
      layout: mode and devices; default config.parallel on all devices.

    Raises:
      UserError: batch size or checkpoint do not fit; `NotFiniteError` if training diverges.
      PreemptedError: after SIGTERM, when the state is saved.
    """
    steps = config[stage.name].steps if steps is None else steps
    layout = layout or sharding.make_layout(config.parallel.mode, config.parallel.fsdp)
    layout.check_batch_size(stage.name, next(iter(stage.batch_spec.values())).shape[0])

    with checkpoint.Checkpoints(workdir, stage.name, config, frozen) as checkpoints:
        create_state = functools.partial(create, stage)
        key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(stage.name.encode()) & 0x7FFFFFFF)
        state = checkpoints.restore(layout.shard_state(jax.eval_shape(create_state, key, initial)))
        if state is None:
            state = layout.create_state(create_state, key, initial)
        if int(state.step) >= steps:
            return state
        return _run(stage, config, state, layout.replicate(dict(frozen)), make_batches, workdir, steps, checkpoints,
                    layout, progress)


def _run(stage: Stage, config: ConfigDict, state: TrainState, frozen: Mapping[str, jax.Array], make_batches: Batches,
         workdir: str | os.PathLike, steps: int, checkpoints: checkpoint.Checkpoints, layout: sharding.Layout,
         progress: bool) -> TrainState:
    """Train from `state` to `steps`."""
    from talkinghead_jax.train import reporting  # here, because it takes seconds: it brings in TensorFlow

    start = int(state.step)
    with (reporting.Reporter(workdir, stage.name, start) as reporter,
          preemption.Watch() as watch,
          prefetch.Prefetcher(functools.partial(make_batches, start), layout.put_batch) as batches,
          tqdm.tqdm(total=steps, initial=start, desc=stage.name, unit='step', mininterval=0.5, dynamic_ncols=True,
                    disable=not progress) as bar):
        bar.set_postfix_str('compiling')
        step = sharding.compile_step(functools.partial(train_step, stage, config.seed), layout, state, frozen,
                                     stage.batch_spec)
        reporter.write(start, {'timing/compile_seconds': step.compile_seconds})
        bar.set_postfix_str(f'compiled in {step.compile_seconds:.1f} s')
        bar.unpause()  # the ETA counts from here

        scalars: Any = None
        window = _Window(stage.name, start, batches)
        with jax.transfer_guard('disallow'):  # a value that slips to the host would make every step wait for it
            for number in range(start + 1, steps + 1):  # the order below is what makes a restart exact
                batch = batches.next(running=scalars)
                before = scalars
                state, scalars = step.call(state, frozen, batch)
                jax.block_until_ready(before)  # one step ahead of the device keeps it busy; more only holds memory
                window.add(scalars)
                bar.update()

                preempted = watch.requested  # read once: it may change between two uses
                saving = preempted or number == steps or number % config.log.checkpoint_every_steps == 0
                if saving or number % config.log.every_steps == 0:
                    means = window.close()
                    reporter.write(number, means)
                    bar.set_postfix({name.removeprefix('loss/'): f'{value:.4g}' for name, value in means.items()
                                     if name.startswith('loss/')})
                    window.raise_if_not_finite()  # after writing, before saving
                    window = _Window(stage.name, number, batches)
                if saving:
                    checkpoints.save(number, state)
                if preempted:
                    raise preemption.PreemptedError(
                        f'stage {stage.name} was asked to stop and has saved step {number}; '
                        'the same command goes on from there')
    return state


class _Window:
    """The scalars of the steps since the last report; they stay on the device until `close`."""

    def __init__(self, stage_name: str, after: int, batches: prefetch.Prefetcher) -> None:
        self._stage_name = stage_name
        self._after = after
        self._batches = batches
        self._waited_before = batches.seconds_waited
        self._start = time.perf_counter()
        self._scalars: list[dict[str, jax.Array]] = []

    def add(self, scalars: dict[str, jax.Array]) -> None:
        self._scalars.append(scalars)

    def close(self) -> dict[str, float]:
        """Means over the window's steps, seconds a step, and the share of time without data."""
        rows: Sequence[dict[str, np.ndarray]] = jax.device_get(self._scalars)
        self._values = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        seconds = time.perf_counter() - self._start
        waited = self._batches.seconds_waited - self._waited_before
        return {**{name: float(values.mean()) for name, values in self._values.items()},
                'timing/seconds_per_step': seconds / len(rows), 'timing/data_wait_share': waited / seconds}

    def raise_if_not_finite(self) -> None:
        """Raise NotFiniteError that names the first scalar that is not finite; of several, a loss first."""
        bad = [(int(np.argmin(np.isfinite(values))), not name.startswith('loss/'), name)
               for name, values in self._values.items() if not np.isfinite(values).all()]
        if bad:
            index, _, name = min(bad)
            value = float(self._values[name][index])
            first, last = self._after + 1, self._after + len(self._values[name])
            raise NotFiniteError(
                f'stage {self._stage_name}: {name} is {"nan" if math.isnan(value) else "infinite"} at step '
                f'{first + index}, within steps {first} to {last}; lower config.{self._stage_name}.optim.'
                'learning_rate or look at the batch; nothing was saved since the last checkpoint')
