"""The ablation study (paper, Fig. 10a): every variant of the generator with several seeds, all at one budget.

Each run lies in ROOT/VARIANT/seed_N: `settings.json`, checkpoints, logs, `pictures.npz` and `evaluation/`. A seed
decides initial weights and random draws; the data and their order are those of config.seed in every run. A run that
was killed goes on where it stopped, one that is finished is not touched again, and one that fails does not stop the
others. Several processes may work on one study: each run has a lock, and what another process holds is passed over.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from talkinghead_jax import evaluation, files, specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.evaluation import NEEDS_DETECTOR, Evaluation
from talkinghead_jax.models.generator import ABLATIONS
from talkinghead_jax.pixels import to_uint8
from talkinghead_jax.stages import published, registry
from talkinghead_jax.train import checkpoint, hosts, loop

STAGE, FULL, SETTINGS = 'generator', 'full', 'settings.json'
PICTURES = 6  # rows of the picture grid, at most

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Data:
    """What a study reads: no file, so that whoever has data can run one.

    Attributes:
      axes: 'vertices', 'triangles' and 'components', as `stages.registry.make_stage` takes them.
      frozen: the dataset's metadata.
      training: first step -> endless batches of the stage from that step on, the same for every run.
      held_out: () -> the batches to evaluate on, the same ones in each call.
      speakers: (n,) who is seen in each example of `held_out`; those of one speaker are not independent.
    """

    axes: Mapping[str, int]
    frozen: Mapping[str, Any]
    training: loop.Batches
    held_out: Callable[[], Iterable[Batch]]
    speakers: np.ndarray


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: the name of its variant ('full' or an ablation) and its seed."""

    variant: str
    seed: int

    def __str__(self) -> str:
        return f'{self.variant}, seed {self.seed}'

    def folder(self, root: str | os.PathLike) -> pathlib.Path:
        """Where it lies under the study's folder."""
        return pathlib.Path(root) / self.variant / f'seed_{self.seed}'


def runs(config: ConfigDict) -> list[Run]:
    """What `config.study` asks for, seed by seed, so that a part of the work is a study with fewer seeds.

    A flag --config.study.variants=full,matting arrives as the one entry 'full,matting'.

    Raises:
      UserError: an unknown variant, a seed that is no number, or none of either.
    """
    named = (name.strip() for entry in config.study.variants for name in entry.split(','))
    variants = list(dict.fromkeys(name or FULL for name in named))
    seeds = list(dict.fromkeys(config.study.seeds))
    known = (FULL, *filter(None, ABLATIONS))
    for variant in variants:
        if variant not in known:
            raise UserError(f'config.study.variants holds {variant!r}; want some of {", ".join(known)}')
    if not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        raise UserError(f'config.study.seeds is {config.study.seeds}; want whole numbers from 0 on, as in (0, 1, 2)')
    if not variants or not seeds:
        raise UserError('config.study.variants or config.study.seeds is empty; want at least one of each')
    return [Run(variant, seed) for seed in seeds for variant in variants]


def run_all(config: ConfigDict, root: str | os.PathLike, data: Data,
            detector: specs.Detector | None = None,
            show: Callable[[str], None] = print) -> dict[Run, Evaluation | UserError]:
    """Train and evaluate every run that is not finished; what became of each, in the order of `runs`.

    Args:
      config: the whole config; reads `study`, and what `train.loop.train` reads.
      root: the study's folder.
      data: what to train and evaluate on.
      detector: of landmarks, for `evaluation.evaluate`; with one, a result that lacks its metric is made again.
      show: takes the printed lines.

    Returns:
      Run -> its evaluation, or the error that ended it. What another process is busy with is missing.

    Raises:
      UserError: as `runs`; a run's folder holds results of other settings, or cannot be written or locked; a
        published network is missing; this is one of several processes that train together.
      PreemptedError: after SIGTERM, when the state is saved.
    """
    hosts.check_alone('--mode=study')
    shown, asked = _Shown(data), runs(config)
    configs = {run: _own_config(config, run) for run in asked}
    networks = published.load(registry.make_stage(STAGE, configs[asked[0]], data.axes))  # the same for every run
    digests = {name: _digest(network) for name, network in networks.items()}
    settings = {run: _settings(configs[run], config.seed, data) | digests for run in asked}
    # All folders are looked at first, so that one of other settings is refused before any work.
    left = [run for run in asked if not _finished(run.folder(root), settings[run], detector)]
    failed = {}
    for run in left:
        folder = run.folder(root)
        with _locked(folder) as mine:
            if not mine:
                show(f'study: {run}: another process is at it')
            elif not _finished(folder, settings[run], detector):
                show(f'study: {run}')
                files.write_atomically(folder / SETTINGS, files.to_json(settings[run]))
                try:
                    _train_and_evaluate(folder, configs[run], data, networks, shown, detector)
                except UserError as error:  # most likely it diverged, which the others need not
                    show(f'study: {run}: {error}')
                    failed[run] = error
                jax.clear_caches()  # no other run uses these programs
    results = {run: failed.get(run) or _finished(run.folder(root), settings[run], detector) for run in asked}
    return {run: result for run, result in results.items() if result}


def pictures(root: str | os.PathLike, variants: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """'true' and each variant that was drawn with `seed` -> (rows, H, W, 3) uint8, the same held-out frames."""
    shown = {}
    for variant in variants:
        path = Run(variant, seed).folder(root) / 'pictures.npz'
        if path.is_file():
            with np.load(path) as archive:
                shown |= {'true': archive['true'], variant: archive['drawn']}
    return shown


def _own_config(config: ConfigDict, run: Run) -> ConfigDict:
    own = ConfigDict(config.to_dict())
    own.seed = run.seed
    own.generator.steps = config.study.steps or config.generator.steps
    own.generator.model.ablation = '' if run.variant == FULL else run.variant
    return own


def _settings(own: ConfigDict, data_seed: int, data: Data) -> dict[str, Any]:
    """Everything that decides a run's result, as plain JSON."""
    known = hashlib.sha256()
    for name in specs.METADATA:
        if name in data.frozen:
            known.update(np.ascontiguousarray(data.frozen[name]).tobytes())
    known.update(repr([str(speaker) for speaker in data.speakers]).encode())
    return json.loads(json.dumps({
        **{key: own[key] for key in checkpoint.SHARED_KEYS}, STAGE: own.generator.to_dict(), 'data_seed': data_seed,
        'dataset': known.hexdigest()[:12], 'spec_version': specs.SPEC_VERSION}))


def _digest(network: Mapping[str, Any]) -> str:
    """Short hash of a published network's arrays."""
    content = hashlib.sha256()
    for leaf in jax.tree.leaves(network):
        content.update(np.ascontiguousarray(leaf).tobytes())
    return content.hexdigest()[:12]


def _deciding(settings: dict[str, Any]) -> dict[str, Any]:
    """What two runs of equal results share; unlike a training that goes on, a run of a study may not grow."""
    return {**settings, **checkpoint.relevant(settings, STAGE), f'{STAGE}.steps': settings[STAGE]['steps']}


def _finished(folder: pathlib.Path, settings: dict[str, Any],
              detector: specs.Detector | None) -> Evaluation | None:
    """The result of a run, if nothing is left to do; refuses a folder of other settings."""
    path = folder / SETTINGS
    if not path.is_file():
        return None
    found = checkpoint.changes(_deciding(json.loads(path.read_text())), _deciding(settings))
    if found:
        raise UserError(f'{folder} was trained with other settings: {"; ".join(found)}; set them back, remove that '
                        'folder, or choose another --workdir')
    done = evaluation.load(folder / 'evaluation', STAGE)
    return None if done and detector and NEEDS_DETECTOR in done.notes.values() else done


def _train_and_evaluate(folder: pathlib.Path, own: ConfigDict, data: Data, networks: Mapping[str, Any],
                        shown: '_Shown', detector: specs.Detector | None) -> None:
    stage = registry.make_stage(STAGE, own, data.axes)
    loop.train(stage, own, {**data.frozen, **networks}, data.training, folder)
    inference = checkpoint.load_for_inference(folder, STAGE)
    true, drawn = shown.draw(stage, inference)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, true=true, drawn=drawn)
    files.write_atomically(folder / 'pictures.npz', buffer.getvalue())
    # Last, for it is what tells that a run is finished.
    evaluation.save(folder / 'evaluation', evaluation.evaluate(
        stage, inference, data.frozen, data.held_out(), step=inference.step, detector=detector))


class _Shown:
    """The held-out frames that every run draws for the picture grid: of as many speakers as there are rows."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._batch: dict[str, np.ndarray] = {}

    def draw(self, stage: Any, inference: checkpoint.Inference) -> tuple[np.ndarray, np.ndarray]:
        """True and generated frames, (rows, H, W, 3) uint8 each."""
        self._batch = self._batch or self._read()
        images = jax.jit(stage.predict)(inference.params, inference.model_state, dict(self._data.frozen),
                                        self._batch)['image']
        return self._batch['target'], to_uint8(np.asarray(images))

    def _read(self) -> dict[str, np.ndarray]:
        chosen = choose(self._data.speakers)
        rows, first = {}, 0
        for batch in self._data.held_out():
            for number in range(len(batch['mask'])):
                if first + number in chosen:
                    rows[first + number] = {name: value[number] for name, value in batch.items()}
            first += len(batch['mask'])
        return {name: np.stack([rows[number][name] for number in chosen]) for name in rows[chosen[0]]}


def choose(speakers: np.ndarray, count: int = PICTURES) -> list[int]:
    """Numbers of at most `count` examples, of as many speakers as possible and from all along their examples.

    Args:
      speakers: (n,) the speaker of each example.
      count: how many; fewer where some speaker has too few.
    """
    theirs = [np.flatnonzero(speakers == name).tolist() for name in dict.fromkeys(speakers.tolist())]
    count = min(count, len(speakers))
    chosen: list[int] = []
    for row in range(count):
        examples = theirs[row * len(theirs) // count if count <= len(theirs) else row % len(theirs)]
        free = [number for number in examples if number not in chosen]
        chosen += free[row * len(free) // count:][:1]
    return chosen


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[bool]:
    """Whether this process may work in `folder` now; the lock ends with the process, however that ends.

    Raises:
      UserError: the folder cannot be written, or its disk has no locks, as some network disks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / '.lock').touch()
    except OSError as error:
        raise UserError(f'cannot write in {folder}: {error.strerror}; want a writable folder') from error
    with open(folder / '.lock') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except BlockingIOError:
            mine = False
        except OSError as error:
            raise UserError(f'cannot lock {file.name}: {error.strerror}; want --workdir on a disk that has file locks'
                            ) from error
        yield mine
