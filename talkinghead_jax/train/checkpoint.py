"""Checkpoints: the state, the dataset's metadata and a record of what they belong to, in one Orbax step.

WORKDIR/checkpoints/STAGE/STEP/{state,dataset,meta}; `dataset` is {'arrays': {name: array}}, for Orbax refuses to
save an empty dict and a stage may need none. Written asynchronously, by all processes together; a step becomes
visible only when all of it is on disk. The data position is not stored: it is a function of the step.

A step that cannot be read is passed over (`fallback`). That is told by files that are missing, cut short or do not
parse; the arrays' own bytes carry no checksum, so a bit that flips in them stays unseen.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.train import fallback
from talkinghead_jax.train.state import TrainState

PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
# Beside everything under config.STAGE, these decide what is computed; the stage's `steps` may grow.
SHARED_KEYS = ('seed', 'dtype', 'image_size')


def directory(workdir: str | os.PathLike, stage_name: str) -> pathlib.Path:
    """Absolute path of a stage's checkpoints."""
    return pathlib.Path(workdir).absolute() / 'checkpoints' / stage_name


class Checkpoints:
    """The checkpoints of one training run; leaving the context waits until the last one is on disk."""

    def __init__(self, workdir: str | os.PathLike, stage_name: str, config: ConfigDict,
                 frozen: Mapping[str, Any]) -> None:
        """Checkpoints under `workdir`; the dataset's metadata in `frozen` are saved along, published networks not."""
        self._stage_name = stage_name
        self._directory = directory(workdir, stage_name)
        self._config = json.loads(config.to_json())
        self._dataset = {name: np.asarray(frozen[name]) for name in specs.METADATA if name in frozen}
        policies = ocp.checkpoint_managers.preservation_policy
        always = config.log.get('keep_every_steps', 0)
        self._keep = policies.AnyPreservationPolicy(
            [policies.LatestN(config.log.keep), *([policies.EveryNSteps(always)] if always else [])])

    @functools.cached_property
    def _manager(self) -> '_Manager':
        """Opened by the first `save`, when `restore` has put away what cannot be read: it keeps a list of steps."""
        return _Manager(self._directory, options=ocp.CheckpointManagerOptions(
            preservation_policy=self._keep, cleanup_tmp_directories=True, lightweight_initialize=True,
            single_host_load_and_broadcast=True))

    def save(self, step: int, state: TrainState) -> None:
        """Start saving `state`, whose buffers may be donated as soon as this returns; twice the same step is once.

        Every process calls it.
        """
        meta = {'stage': self._stage_name, 'step': step, 'spec_version': specs.SPEC_VERSION, 'config': self._config,
                'dataset': {name: [list(x.shape), str(x.dtype)] for name, x in self._dataset.items()},
                'versions': {name: importlib.metadata.version(name) for name in PACKAGES}}
        with jax.transfer_guard('allow'):  # Orbax copies to the host implicitly
            if step == self._manager.latest_step():
                return
            saved = self._manager.save(step, args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), dataset=ocp.args.StandardSave({'arrays': self._dataset}),
                meta=ocp.args.JsonSave(meta)))
        if not saved:
            raise RuntimeError(f'{self._directory}: Orbax refused to save step {step}; '
                               f'its latest is {self._manager.latest_step()}')

    def restore(self, abstract_state: TrainState) -> TrainState | None:
        """The latest state that can be read, placed as the shardings of `abstract_state` say.

        Every process calls it, and all get the same step. None where nothing was saved yet.

        Raises:
          UserError: it was trained under another config, dataset or data contract, which the sentence names; no
            step can be read; or the file system refuses to read one.
        """
        return fallback.newest(self._directory, functools.partial(self._read, abstract_state), training=True)

    def _read(self, abstract_state: TrainState, folder: pathlib.Path) -> TrainState:
        self._check(_read_meta(folder))
        dataset = fallback.read(folder, 'dataset', ocp.args.StandardRestore(
            {'arrays': jax.tree.map(np.empty_like, self._dataset)}))['arrays']
        for name, array in self._dataset.items():
            if not np.array_equal(array, dataset[name]):
                raise UserError(f'{self._directory} was trained with another dataset: its {name} differs from that '
                                'of config.data.directory; restore that dataset, or choose another --workdir')
        return fallback.read(folder, 'state', ocp.args.StandardRestore(abstract_state))

    def _check(self, meta: Mapping[str, Any]) -> None:
        """Raise UserError unless a run of the present config may go on from `meta`."""
        if meta['spec_version'] != specs.SPEC_VERSION:
            raise UserError(f'{self._directory} follows version {meta["spec_version"]} of the data contract, this '
                            f'program version {specs.SPEC_VERSION}: train anew in another --workdir')
        dataset = {name: [list(x.shape), str(x.dtype)] for name, x in self._dataset.items()}
        found = (changes(relevant(meta['config'], self._stage_name), relevant(self._config, self._stage_name))
                 + changes({'dataset': meta['dataset']}, {'dataset': dataset}))
        if found:
            raise UserError(f'{self._directory} was trained with a different config: {"; ".join(found)}; '
                            'set it back, or choose another --workdir')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if '_manager' in vars(self):
            self._manager.close()


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, but for one question that is the loop's: see `preemption`.

    Orbax would ask JAX whether all processes have reached the step to stop after, from its threads and with the
    number of a step long past, and the answer would come out wrong.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


def _read_meta(folder: pathlib.Path) -> dict[str, Any]:
    meta = fallback.read(folder, 'meta', ocp.args.JsonRestore())
    if missing := {'spec_version', 'config', 'dataset'}.difference(meta):
        raise fallback.BrokenError(f'meta lacks {", ".join(sorted(missing))}')
    return meta


@dataclasses.dataclass(frozen=True)
class Inference:
    """What a trained stage needs to be used.

    Attributes:
      params: by player, the moving average where there is one.
      model_state: by player.
      dataset: the dataset's metadata (`specs.METADATA`), numpy: the `frozen` of `Stage.predict`.
      config: the whole config of the training run.
      step: optimizer steps that the parameters have seen.
    """

    params: dict[str, Any]
    model_state: dict[str, Any]
    dataset: dict[str, np.ndarray]
    config: ConfigDict
    step: int

    @functools.cached_property
    def digest(self) -> str:
        """Short hash of the parameters: equal steps of two trainings differ in it."""
        content = hashlib.sha256()
        for leaf in jax.tree.leaves((self.params, self.model_state)):
            content.update(np.asarray(leaf).tobytes())
        return content.hexdigest()[:12]


def exists(workdir: str | os.PathLike, stage_name: str) -> bool:
    """Whether a checkpoint of a stage is there, so that training goes on from it."""
    return bool(fallback.steps(directory(workdir, stage_name)))


def load_for_inference(workdir: str | os.PathLike, stage_name: str) -> Inference:
    """Load the latest checkpoint of a stage that can be read onto one device, without its optimizer.

    Each process may call it by itself; nothing is moved.

    Raises:
      UserError: there is no checkpoint, none can be read, or the file system refuses to read one.
    """
    folder = directory(workdir, stage_name)
    found = fallback.newest(folder, _load, training=False)
    if found is None:
        raise UserError(f'{folder} holds no checkpoint of stage {stage_name}: train it first, with --mode=train')
    return found


def _load(folder: pathlib.Path) -> Inference:
    meta = _read_meta(folder)
    tree = fallback.shapes(folder, 'state')
    params = {name: player for name, player in tree['params'].items() if name not in tree['ema']}
    wanted = {'params': params, 'ema': tree['ema'], 'model_state': tree['model_state']}
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), wanted)
    dataset = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), fallback.shapes(folder, 'dataset'))
    state = fallback.read(folder, 'state', _partial(state))
    dataset = fallback.read(folder, 'dataset', _partial(dataset))
    return Inference(params={**state['params'], **state['ema']}, model_state=state['model_state'],
                     dataset=dataset['arrays'], config=ConfigDict(meta['config']), step=int(folder.name))


def _partial(abstract: Any) -> ocp.args.PyTreeRestore:
    """Restore only what `abstract` names."""
    return ocp.args.PyTreeRestore(item=abstract, partial_restore=True,
                                  restore_args=ocp.checkpoint_utils.construct_restore_args(abstract))


def relevant(config: Mapping[str, Any], stage_name: str) -> dict[str, Any]:
    """The part of a config that a resumed run may not change: what decides the result, but not how long it runs."""
    # Microbatches and gradient checkpointing trade time for memory.
    stage = {key: value for key, value in config[stage_name].items() if key not in ('steps', 'accumulate')}
    if 'model' in stage:
        stage['model'] = {key: value for key, value in stage['model'].items() if key != 'remat'}
    shared = {key: config.get(key) for key in SHARED_KEYS}
    return {**shared, 'start': config.get('start') or '', stage_name: stage}


def changes(old: Any, new: Any, key: str = '') -> list[str]:
    """Sentences 'a.b was 1, is now 2' for each leaf in which two JSON trees differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [change for name in sorted({*old, *new})
                for change in changes(old.get(name), new.get(name), f'{key}.{name}' if key else name)]
    return [] if old == new else [f'{key} was {old!r}, is now {new!r}']
