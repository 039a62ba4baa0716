"""Prepared data to batches, with tf.data; any step of any run can be reached directly.

The order of training is `permutation(seed, epoch)` over all clips, laid end to end; global batch s holds entries
s B .. (s + 1) B - 1 of it. So resuming is arithmetic on the step. Each host reads its contiguous part of every
global batch, so the global batch is the same array for any number of hosts. What is random in an example comes
from (seed, step, number of the example in the global batch) and nothing else.
"""

import atexit
import contextlib
import dataclasses
import functools
import logging
import os
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from input_pipeline import examples
from input_pipeline.dataset import Dataset, MemoryRecords, open_dataset
from input_pipeline.loader_processes import ProcessBatches
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError

__all__ = ['Dataset', 'batch_maker', 'evaluation_batches', 'evaluation_speakers', 'open_dataset', 'record_batches',
           'training_batches']

tf.config.set_visible_devices([], 'GPU')  # the accelerator belongs to JAX

Batch = dict[str, np.ndarray]
_PREFETCH = 4  # batches

_log = logging.getLogger(__name__)
_open: weakref.WeakSet = weakref.WeakSet()  # the iterators that nobody has closed or forgotten yet


@atexit.register
def _close() -> None:
    """End what is still read: at the very end of Python its threads or processes would be waited for, for ever."""
    for iterator in list(_open):
        with contextlib.suppress(ValueError):  # another thread is in it
            iterator.close()


def training_batches(dataset: Dataset, stage_name: str, config: ConfigDict, start_step: int = 0,
                     process_index: int = 0, process_count: int = 1) -> Iterator[Batch]:
    """Endless training batches of a stage, from step `start_step` on.

    Args:
      dataset: what `open_dataset` gives.
      stage_name: whose batches.
      config: the whole config; the global batch size is `config.<stage_name>.batch_size`. Processes make the batches
        if `config.data.loader_workers` says how many, else threads; the batches are the same.
      start_step: number of the first batch.
      process_index: this host.
      process_count: number of hosts; each gets its share of every global batch.

    Yields:
      The fields of the stage's batch in `specs`; `mask` is all True.

    Raises:
      UserError: no training data for the stage, data that depart from the stage's spec, a batch that does not
        divide among the hosts, or the death of a process that makes batches.
    """
    made = _training(_records(dataset, stage_name, 'train'), stage_name, config, process_index, process_count)
    workers = config.get('data', {}).get('loader_workers', 0)
    if workers < 0:
        raise UserError(f'config.data.loader_workers is {workers}; want a number of processes, or 0 for threads')
    if not workers:
        return _in_threads(made, _steps(made, start_step))
    batches = ProcessBatches(workers, dataset.directory.absolute(), start_step, stage_name, config, process_index,
                             process_count)
    _open.add(batches)
    return batches


def batch_maker(dataset: Dataset, stage_name: str, config: ConfigDict, process_index: int = 0,
                process_count: int = 1) -> Callable[[int], Batch]:
    """The function of the step that gives what `training_batches`, of the same arguments, yields at that step."""
    made = _training(_records(dataset, stage_name, 'train'), stage_name, config, process_index, process_count)

    def make(step: int) -> Batch:
        rows = [made.load(number) for number in made.numbers(step)]
        return {name: np.concatenate(parts) for name, parts in zip(made.names, zip(*rows, strict=True), strict=True)}

    return make


def record_batches(records: Sequence[Mapping[str, Any]], stage_name: str, config: ConfigDict,
                   start_step: int = 0) -> Iterator[Batch]:
    """`training_batches` from records in memory: fine-tuning on a clip."""
    made = _training(MemoryRecords(records), stage_name, config, 0, 1)
    return _in_threads(made, _steps(made, start_step))


def evaluation_batches(dataset: Dataset, stage_name: str, config: ConfigDict, split: str,
                       process_index: int = 0, process_count: int = 1) -> Iterator[Batch]:
    """Every clip of a split, once (`targets_per_clip` examples of each for the generator), in a fixed order.

    The last batch is filled up with copies whose `mask` is False. Arguments as in `training_batches`.
    """
    records = _records(dataset, stage_name, split)
    stage = config[stage_name]
    clips, repeats = _eligible(records, stage_name, stage), examples.targets(stage_name, stage)
    count = len(clips) * repeats

    def draw(number: int) -> tuple[int, Batch]:
        target, clip = divmod(min(number, count - 1), len(clips))  # so that a batch shows several clips
        place = int(clips[clip])
        example = examples.sample(stage_name, records[place], _generator(config.seed, stage_name, number), stage,
                                  config.image_size, False, target)
        return place, {**example, 'mask': np.asarray(number < count)}

    made = _examples(draw, records, stage_name, config, False, process_index, process_count)
    return _in_threads(made, range(-(-count // stage.batch_size)))


def evaluation_speakers(dataset: Dataset, stage_name: str, config: ConfigDict, split: str) -> np.ndarray:
    """(n,) str: whose clip each example of `evaluation_batches` is from, in their order and without the filling."""
    records, stage = _records(dataset, stage_name, split), config[stage_name]
    clips = _eligible(records, stage_name, stage)
    return np.tile([records[clip]['speaker_id'] for clip in clips], examples.targets(stage_name, stage))


@dataclasses.dataclass(frozen=True)
class _Examples:
    """The examples of a stage, checked, and which of them are this host's part of a batch.

    Attributes:
      load: number of an example -> its fields, each (1, ..), in the order of `names`.
      names: of the fields.
      dtypes: of the fields.
      size: of a global batch.
      local: number of this host's examples in it.
      first: place of the first of them in it.
    """

    load: Callable[[int], list[np.ndarray]]
    names: list[str]
    dtypes: list
    size: int
    local: int
    first: int

    def numbers(self, step: int) -> range:
        start = step * self.size + self.first
        return range(start, start + self.local)


def _steps(made: _Examples, start: int) -> range:
    return range(start, 2 ** 62 // made.size)


def _training(records: Sequence, stage_name: str, config: ConfigDict, process_index: int,
              process_count: int) -> _Examples:
    stage = config[stage_name]
    clips = _eligible(records, stage_name, stage)
    order = functools.lru_cache(maxsize=2)(
        lambda epoch: _generator(config.seed, 'order', epoch).permutation(len(clips)))

    def draw(number: int) -> tuple[int, Batch]:
        epoch, turn = divmod(number, len(clips))
        place = int(clips[order(epoch)[turn]])
        rng = _generator(config.seed, stage_name, *divmod(number, stage.batch_size))
        example = examples.sample(stage_name, records[place], rng, stage, config.image_size, True)
        return place, {**example, 'mask': np.asarray(True)}

    return _examples(draw, records, stage_name, config, True, process_index, process_count)


def _examples(draw: Any, records: Sequence, stage_name: str, config: ConfigDict, training: bool, process_index: int,
              process_count: int) -> _Examples:
    """The examples draw(0), draw(1), ..; draw(n) -> (number of the record, example)."""
    size = config[stage_name].batch_size
    if size % process_count:
        raise UserError(f'config.{stage_name}.batch_size is {size}; it must be a multiple of the {process_count} '
                        'hosts')
    local = size // process_count
    vertices = len(records[0]['mesh_vertices']) if stage_name == 'generator' else 0
    spec = examples.batch_spec(stage_name, config[stage_name], config.image_size, vertices, training, 1)
    names = sorted(spec)

    def load(number: int) -> list[np.ndarray]:
        place, example = draw(number)
        batch = {name: value[None] for name, value in example.items()}
        if found := specs.differences(batch, spec):
            raise UserError(f'prepared data do not fit config.{stage_name}: ' + '; '.join(found))
        if bad := [name for name in names if not np.isfinite(batch[name]).all()]:
            name = records[place].get('clip_id', f'number {place}')
            raise UserError(f'prepared data of stage {stage_name}: {", ".join(bad)} of record {name} '
                            f'{"is" if len(bad) == 1 else "are"} not finite; prepare it anew, or without it')
        return [batch[name] for name in names]

    return _Examples(load, names, [spec[name].dtype for name in names], size, local, process_index * local)


def _in_threads(made: _Examples, steps: range) -> Iterator[Batch]:
    """Batches `steps`, made by threads of this process."""
    failures = []

    def load(number: np.ndarray) -> list[np.ndarray]:
        try:
            return made.load(int(number))
        except Exception as error:  # tf.data would turn it into a string
            failures.append(error)
            raise

    def batches() -> Iterator[Batch]:
        iterator = _pipeline(load, made, steps).as_numpy_iterator()
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except tf.errors.OpError as error:
                raise (failures[0] if failures else error) from None
            yield {name: value[:, 0] for name, value in zip(made.names, batch, strict=True)}

    iterator = batches()
    _open.add(iterator)
    return iterator


def _pipeline(load: Any, made: _Examples, steps: range) -> tf.data.Dataset:
    numbers = tf.data.Dataset.range(steps.start * made.local, steps.stop * made.local).map(
        lambda i: i // made.local * made.size + made.first + i % made.local)
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = _threads()
    return (numbers
            .map(lambda number: tf.numpy_function(load, [number], made.dtypes), num_parallel_calls=_threads())
            .batch(made.local, drop_remainder=True)
            .prefetch(_PREFETCH)
            .with_options(options))


def _threads() -> int:
    return max(2, min(16, os.cpu_count() or 1))


def _records(dataset: Dataset, stage_name: str, split: str) -> Sequence:
    return dataset.records('position_maps' if stage_name == 'unprojection' else 'clips', split)


def _eligible(records: Sequence, stage_name: str, stage: ConfigDict) -> np.ndarray:
    """Numbers of the records that are long enough; only Phi leaves any out (design, Sec. 7)."""
    if stage_name != 'head_motion':
        return np.arange(len(records))
    long_enough = np.flatnonzero(records.frames >= stage.data.min_frames)
    if len(long_enough) == 0:
        raise UserError(f'none of the {len(records)} clips has the {stage.data.min_frames} frames of '
                        f'config.{stage_name}.data.min_frames')
    if len(long_enough) < len(records):
        _log.warning('%s leaves out %d of %d clips: shorter than %d frames', stage_name,
                     len(records) - len(long_enough), len(records), stage.data.min_frames)
    return long_enough


def _generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """Random numbers that depend on seed, purpose and place alone; never on what was drawn before."""
    counter = [0, 0, *place, *[0] * (2 - len(place))]
    return np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(purpose.encode())], counter=counter))
