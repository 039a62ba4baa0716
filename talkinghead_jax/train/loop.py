"""The one train loop: get a batch, step, report, save. Everything else has its own file."""

import functools
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from ml_collections import ConfigDict

from talkinghead_jax.stages.base import Stage
from talkinghead_jax.train import checkpoint, failures, hosts, preemption, prefetch, sharding
from talkinghead_jax.train.state import TrainState, create
from talkinghead_jax.train.step import train_step

Batches = Callable[[int], Iterator[Mapping[str, np.ndarray]]]


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
      progress: whether process 0 shows a progress bar.
      layout: mode and devices; default config.parallel on all devices.

    Raises:
      UserError: batch size or checkpoint do not fit; `failures.NotFiniteError` if training diverges,
        `failures.OutOfMemoryError` if the devices are too small for it.
      PreemptedError: after SIGTERM, when the state is saved.
    """
    steps = config[stage.name].steps if steps is None else steps
    layout = layout or sharding.make_layout(config.parallel.mode, config.parallel.fsdp)
    layout.check_batch_size(stage.name, batch_size(stage), _microbatches(config, stage))

    # The watch is outermost: SIGTERM, or a second one, must not end the process before the last save is on disk.
    with (preemption.Watch() as watch,
          failures.out_of_memory_explained(stage.name, batch_size(stage), config, layout),
          checkpoint.Checkpoints(workdir, stage.name, config, frozen) as checkpoints):
        create_state = functools.partial(create, stage)
        key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(stage.name.encode()) & 0x7FFFFFFF)
        state = checkpoints.restore(layout.shard_state(jax.eval_shape(create_state, key, initial)))
        if state is None:
            state = layout.create_state(create_state, key, initial)
        if int(state.step) < steps:
            state = _run(stage, config, state, layout.replicate(dict(frozen)), make_batches, workdir, steps,
                         checkpoints, layout, watch, progress)
    if watch.requested:  # since the last step: the next stage must not begin
        raise preemption.PreemptedError(stage.name, int(state.step))
    return state


def _run(stage: Stage, config: ConfigDict, state: TrainState, frozen: Mapping[str, jax.Array], make_batches: Batches,
         workdir: str | os.PathLike, steps: int, checkpoints: checkpoint.Checkpoints, layout: sharding.Layout,
         watch: preemption.Watch, progress: bool) -> TrainState:
    """Train from `state` to `steps`."""
    from talkinghead_jax.train import reporting  # here, because it takes seconds: it brings in TensorFlow

    start = int(state.step)
    with (reporting.Reporter(workdir, stage.name, start) as reporter,
          prefetch.Prefetcher(functools.partial(make_batches, start), layout.put_batch) as batches,
          tqdm.tqdm(total=steps, initial=start, desc=stage.name, unit='step', mininterval=0.5, dynamic_ncols=True,
                    disable=not (progress and hosts.is_main())) as bar):
        bar.set_postfix_str('compiling')
        step = sharding.compile_step(
            functools.partial(train_step, stage, config.seed, accumulate=_microbatches(config, stage)), layout, state,
            frozen, stage.batch_spec)
        reporter.write(start, {'timing/compile_seconds': step.compile_seconds, 'timing/flops_per_step': step.flops})
        bar.set_postfix_str(f'compiled in {step.compile_seconds:.1f} s')
        bar.unpause()  # the ETA counts from here

        scalars: Any = None
        window = _Window(stage, start, batches)
        waiting = failures.WaitingWarning(stage.name)
        with jax.transfer_guard('disallow'):  # a value that slips to the host would make every step wait for it
            for number in range(start + 1, steps + 1):  # the order below is what makes a restart exact
                batch = batches.next(running=scalars)
                before = scalars
                state, scalars = step.call(state, frozen, batch)
                jax.block_until_ready(before)  # one step ahead of the device keeps it busy; more only holds memory
                window.add(scalars)
                bar.update()

                preempted = watch.requested_at(number)
                saving = preempted or number == steps or number % config.log.checkpoint_every_steps == 0
                if saving or number % config.log.every_steps == 0:
                    means = window.close()
                    reporter.write(number, means)
                    bar.set_postfix({name.removeprefix('loss/'): f'{value:.4g}' for name, value in means.items()
                                     if name.startswith('loss/')})
                    window.raise_if_not_finite()  # after writing, before saving
                    waiting.check(means['timing/data_wait_share'])
                    window = _Window(stage, number, batches)
                if saving:
                    checkpoints.save(number, state)
                if preempted:
                    raise preemption.PreemptedError(stage.name, number)
    return state


class _Window:
    """The scalars of the steps since the last report; they stay on the device until `close`."""

    def __init__(self, stage: Stage, after: int, batches: prefetch.Prefetcher) -> None:
        self._stage = stage
        self._after = after
        self._batches = batches
        self._waited_before = batches.seconds_waited
        self._start = time.perf_counter()
        self._scalars: list[dict[str, jax.Array]] = []

    def add(self, scalars: dict[str, jax.Array]) -> None:
        self._scalars.append(scalars)

    def close(self) -> dict[str, float]:
        """Means over the window's steps, seconds a step, examples a second, and the share of time without data."""
        rows: Sequence[dict[str, np.ndarray]] = jax.device_get(self._scalars)
        self._values = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        seconds = time.perf_counter() - self._start
        waited = self._batches.seconds_waited - self._waited_before
        examples = len(rows) * batch_size(self._stage)
        return {**{name: float(values.mean()) for name, values in self._values.items()},
                'timing/seconds_per_step': seconds / len(rows), 'timing/examples_per_second': examples / seconds,
                'timing/data_wait_share': hosts.largest(waited / seconds)}  # one that waits makes all wait

    def raise_if_not_finite(self) -> None:
        """Raise `failures.NotFiniteError` where a scalar of the window is not finite."""
        failures.raise_if_not_finite(self._stage.name, self._after, self._values)


def batch_size(stage: Stage) -> int:
    """Examples in a global batch of `stage`."""
    return next(iter(stage.batch_spec.values())).shape[0]


def _microbatches(config: ConfigDict, stage: Stage) -> int:
    return config[stage.name].get('accumulate', 1)  # older checkpoints' configs lack it
