"""What spoils a training run beside a user's mistake, each told in one sentence."""

import contextlib
import logging
import math
import re
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from talkinghead_jax.errors import UserError
from talkinghead_jax.train.sharding import Layout

TOO_LONG = 0.5  # share of a window's time without data, beyond which it is worth a warning

_log = logging.getLogger(__name__)


class NotFiniteError(UserError):
    """A loss, a gradient or another scalar of the log became infinite or not a number."""


class OutOfMemoryError(UserError):
    """The devices have not as much memory as a stage takes."""


def raise_if_not_finite(stage_name: str, after: int, values: Mapping[str, np.ndarray]) -> None:
    """Raise NotFiniteError that names the first scalar that is not finite; of several in a step, a loss first.

    Args:
      stage_name: what is trained.
      after: the step before the first one of `values`.
      values: name -> (n,), one value a step.
    """
    bad = [(int(np.argmin(np.isfinite(x))), not name.startswith('loss/'), name)
           for name, x in values.items() if not np.isfinite(x).all()]
    if bad:
        index, _, name = min(bad)
        value = float(values[name][index])
        first, last = after + 1, after + len(values[name])
        raise NotFiniteError(
            f'stage {stage_name}: {name} is {"nan" if math.isnan(value) else "infinite"} at step '
            f'{first + index}, within steps {first} to {last}; lower config.{stage_name}.optim.'
            'learning_rate or look at the batch; nothing was saved since the last checkpoint')


@contextlib.contextmanager
def out_of_memory_explained(stage_name: str, batch_size: int, config: ConfigDict, layout: Layout) -> Iterator[None]:
    """Turn what JAX raises where device memory does not suffice into an OutOfMemoryError.

    The compiler, the allocation of the state or a step may raise it, and a step's comes up wherever its results
    are waited for. So the block is all of training.

    Args:
      stage_name: what is trained.
      batch_size: of the global batch.
      config: the whole config; of what saves memory, only what is not in use yet is recommended.
      layout: mode and devices.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        # A message or the number of open files may exhaust something, too.
        if not re.search('out.of.memory|RESOURCE_EXHAUSTED.*(hbm|allocat)', str(error), re.IGNORECASE | re.DOTALL):
            raise
        share = batch_size // layout.mesh.size
        told = str(error).strip().splitlines()[0].removeprefix('RESOURCE_EXHAUSTED: ').rstrip('.')
        raise OutOfMemoryError(
            f'stage {stage_name} takes more than the memory of its device with config.{stage_name}.batch_size '
            f'{batch_size}, {share} a device ({told}); {"; or ".join(_remedies(stage_name, share, config, layout))}'
        ) from error


def _remedies(stage_name: str, share: int, config: ConfigDict, layout: Layout) -> list[str]:
    """What to change in a config, what costs least first."""
    stage = config[stage_name]
    accumulate, model = stage.get('accumulate', 1), stage.get('model', {})
    remedies = []
    if accumulate < share:
        remedies += [f'raise config.{stage_name}.accumulate, now {accumulate}',
                     f'lower config.{stage_name}.batch_size']
    if 'remat' in model and model['remat'] != 'full':
        remedies.append(f"set config.{stage_name}.model.remat to 'full'")
    if config.get('dtype') == 'float32':
        remedies.append("set config.dtype to 'bfloat16'")
    if layout.mesh.shape['fsdp'] < layout.mesh.size:
        remedies.append('raise config.parallel.fsdp' if layout.mode == 'sharded' else
                        "set config.parallel.mode to 'sharded' and raise config.parallel.fsdp")
    return remedies or [f'want devices with more memory, or a smaller config.{stage_name}.model']


class WaitingWarning:
    """Warns, once, that a run waits for data for more than `TOO_LONG` of its time."""

    def __init__(self, stage_name: str) -> None:
        self._stage_name = stage_name
        self._windows = 0
        self._told = False

    def check(self, share: float) -> None:
        """To be told of the share of each window's time without data, 0 to 1; the first, which starts up, is free."""
        self._windows += 1
        if share > TOO_LONG and self._windows > 1 and not self._told:
            self._told = True
            _log.warning(
                'stage %s waits for data for %.0f%% of its time: a host prepares too few examples a second; it '
                'needs more processes (config.data.loader_workers), faster cores, a faster disk, or a lighter '
                'config.%s.data', self._stage_name, 100 * share, self._stage_name)
