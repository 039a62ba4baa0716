"""Prepared data to batches, with tf.data; any step of any run can be reached directly.

The order of training is `permutation(seed, epoch)` over all clips, laid end to end; global batch s holds entries
s B .. (s + 1) B - 1 of it. So resuming is arithmetic on the step. Each host reads its contiguous part of every
global batch, so the global batch is the same array for any number of hosts. What is random in an example comes
from (seed, step, number of the example in the global batch) and nothing else.
"""

import functools
import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from input_pipeline import examples
from input_pipeline.dataset import Dataset, MemoryRecords, open_dataset
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError

__all__ = ['Dataset', 'evaluation_batches', 'evaluation_speakers', 'open_dataset', 'record_batches',
           'training_batches']

tf.config.set_visible_devices([], 'GPU')  # the accelerator belongs to JAX

Batch = dict[str, np.ndarray]
_PREFETCH = 4  # batches

_log = logging.getLogger(__name__)


def training_batches(dataset: Dataset, stage_name: str, config: ConfigDict, start_step: int = 0,
                     process_index: int = 0, process_count: int = 1) -> Iterator[Batch]:
    """Endless training batches of a stage, from step `start_step` on.

    Args:
      dataset: what `open_dataset` gives.
      stage_name: whose batches.
      config: the whole config; the global batch size is `config.<stage_name>.batch_size`.
      start_step: number of the first batch.
      process_index: this host.
      process_count: number of hosts; each gets its share of every global batch.

    Yields:
      The fields of the stage's batch in `specs`; `mask` is all True.

    Raises:
      UserError: no training data for the stage, data that depart from the stage's spec, or a batch that does
        not divide among the hosts.
    """
    records = _records(dataset, stage_name, 'train')
    return _training(records, stage_name, config, start_step, process_index, process_count)


def record_batches(records: Sequence[Mapping[str, Any]], stage_name: str, config: ConfigDict,
                   start_step: int = 0) -> Iterator[Batch]:
    """`training_batches` from records in memory: fine-tuning on a clip."""
    return _training(MemoryRecords(records), stage_name, config, start_step, 0, 1)


def evaluation_batches(dataset: Dataset, stage_name: str, config: ConfigDict, split: str,
                       process_index: int = 0, process_count: int = 1) -> Iterator[Batch]:
    """Every clip of a split, once (`targets_per_clip` examples of each for the generator), in a fixed order.

    The last batch is filled up with copies whose `mask` is False. Arguments as in `training_batches`.
    """
    records = _records(dataset, stage_name, split)
    stage = config[stage_name]
    clips, repeats = _eligible(records, stage_name, stage), examples.targets(stage_name, stage)
    count = len(clips) * repeats

    def draw(number: int) -> Batch:
        target, clip = divmod(min(number, count - 1), len(clips))  # so that a batch shows several clips
        example = examples.sample(stage_name, records[clips[clip]], _generator(config.seed, stage_name, number),
                                  stage, config.image_size, False, target)
        return {**example, 'mask': np.asarray(number < count)}

    batches = -(-count // stage.batch_size)
    return _batches(draw, records, stage_name, config, False, range(batches), process_index, process_count)


def evaluation_speakers(dataset: Dataset, stage_name: str, config: ConfigDict, split: str) -> np.ndarray:
    """(n,) str: whose clip each example of `evaluation_batches` is from, in their order and without the filling."""
    records, stage = _records(dataset, stage_name, split), config[stage_name]
    clips = _eligible(records, stage_name, stage)
    return np.tile([records[clip]['speaker_id'] for clip in clips], examples.targets(stage_name, stage))


def _training(records: Sequence, stage_name: str, config: ConfigDict, start_step: int, process_index: int,
              process_count: int) -> Iterator[Batch]:
    stage = config[stage_name]
    clips = _eligible(records, stage_name, stage)
    order = functools.lru_cache(maxsize=2)(
        lambda epoch: _generator(config.seed, 'order', epoch).permutation(len(clips)))

    def draw(number: int) -> Batch:
        epoch, place = divmod(number, len(clips))
        record = records[clips[order(epoch)[place]]]
        rng = _generator(config.seed, stage_name, *divmod(number, stage.batch_size))
        example = examples.sample(stage_name, record, rng, stage, config.image_size, True)
        return {**example, 'mask': np.asarray(True)}

    steps = range(start_step, 2 ** 62 // stage.batch_size)
    return _batches(draw, records, stage_name, config, True, steps, process_index, process_count)


def _batches(draw: Any, records: Sequence, stage_name: str, config: ConfigDict, training: bool, steps: range,
             process_index: int, process_count: int) -> Iterator[Batch]:
    """Batches `steps` of the examples draw(0), draw(1), ..: this host's part of each."""
    size = config[stage_name].batch_size
    if size % process_count:
        raise UserError(f'config.{stage_name}.batch_size is {size}; it must be a multiple of the {process_count} '
                        'hosts')
    local = size // process_count
    vertices = len(records[0]['mesh_vertices']) if stage_name == 'generator' else 0
    spec = examples.batch_spec(stage_name, config[stage_name], config.image_size, vertices, training, 1)
    names, failures = sorted(spec), []

    def load(number: np.ndarray) -> list[np.ndarray]:
        try:
            batch = {name: value[None] for name, value in draw(int(number)).items()}
            if found := specs.differences(batch, spec):
                raise UserError(f'prepared data do not fit config.{stage_name}: ' + '; '.join(found))
            return [batch[name] for name in names]
        except Exception as error:  # tf.data would turn it into a string
            failures.append(error)
            raise

    def batches() -> Iterator[Batch]:
        pipeline = _pipeline(load, [spec[name].dtype for name in names], steps, size, local, process_index)
        iterator = pipeline.as_numpy_iterator()
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except tf.errors.OpError as error:
                raise (failures[0] if failures else error) from None
            yield {name: value[:, 0] for name, value in zip(names, batch, strict=True)}

    return batches()


def _pipeline(load: Any, dtypes: list, steps: range, size: int, local: int, process_index: int) -> tf.data.Dataset:
    numbers = tf.data.Dataset.range(steps.start * local, steps.stop * local).map(
        lambda i: i // local * size + process_index * local + i % local)
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = _workers()
    return (numbers
            .map(lambda number: tf.numpy_function(load, [number], dtypes), num_parallel_calls=_workers())
            .batch(local, drop_remainder=True)
            .prefetch(_PREFETCH)
            .with_options(options))


def _workers() -> int:
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
