"""Films one by one to a table: in constant memory, over several processes, and resumed where it was killed.

Process p of P takes films p, p + P, ... Once a minute it leaves a snapshot of all that it knows, scores and sums, as
one file; killed, it goes on behind the last one, and ends in the same numbers.
"""

import dataclasses
import hashlib
import io
import json
import logging
import os
import pathlib
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from talkinghead_jax import files
from talkinghead_jax.metrics.fid import Moments
from talkinghead_jax.protocols.films import Film
from talkinghead_jax.protocols.judges import Judges
from talkinghead_jax.protocols.recipes import RECIPES, VERSION
from talkinghead_jax.protocols.results import YAW_EDGES, Results
from talkinghead_jax.protocols.scoring import Score, score
from talkinghead_jax.train import hosts

SNAPSHOT_SECONDS = 60.0

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be evaluated.

    Attributes:
      protocol: as in `Results`.
      dataset: as in `Results`.
      labels: row -> name for readers; 'truth' among them.
      baselines: as in `Results`.
      count: number of films.
      film: number of a film -> the film; the same every time.
      facts: as in `Results`; what the numbers depend on belongs there, for another fact is another evaluation.
      row_notes: as in `Results`.
      recipe_changes: metric -> fields of its recipe that are otherwise here.
    """

    protocol: str
    dataset: str
    labels: Mapping[str, str]
    baselines: tuple[str, ...]
    count: int
    film: Callable[[int], Film]
    facts: Mapping[str, str]
    row_notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    recipe_changes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


def key_of(plan: Plan, judges: Judges) -> str:
    """A digest of everything that the numbers depend on: where it is the same, nothing is computed again."""
    about = [plan.protocol, plan.dataset, dict(plan.labels), plan.count, dict(plan.facts), VERSION, judges.weights,
             sorted(name for family in judges.families for name in family.names), judges.notes]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def run(folder: str | os.PathLike, plan: Plan, judges: Judges,
        progress: Callable[[Iterable], Iterable] | None = None, snapshot_seconds: float = SNAPSHOT_SECONDS,
        ) -> Results | None:
    """Score this process's films, wait for the others, and put everything together.

    Args:
      folder: for the snapshots; all processes see it.
      plan: what is evaluated.
      judges: by what.
      progress: wraps the numbers of the films that are left, as `tqdm.tqdm` does.
      snapshot_seconds: between snapshots.

    Returns:
      The results in process 0, None in the others.
    """
    folder, key = pathlib.Path(folder), key_of(plan, judges)
    index, count = jax.process_index(), jax.process_count()
    mine = range(index, plan.count, count)
    place = folder / 'parts' / f'part-{index:05d}-of-{count:05d}.npz'
    part = _read(place, key, judges)
    left, last = mine[len(part):], time.monotonic()
    if part and left:
        _log.warning('%s: goes on behind %d of %d clips', plan.protocol, len(part), len(mine))
    for number in progress(left) if progress else left:
        part.append(score(plan.film(number), judges))
        if time.monotonic() - last >= snapshot_seconds:
            _write(place, key, part, judges)
            last = time.monotonic()
    if left or not place.is_file():
        _write(place, key, part, judges)
    hosts.wait_for_all(f'evaluated {plan.protocol}')
    return _together(folder / 'parts', key, plan, judges, count) if index == 0 else None


def clear(folder: str | os.PathLike) -> None:
    """Remove the snapshots, once the results are kept."""
    for place in pathlib.Path(folder, 'parts').glob('part-*.npz'):
        place.unlink()


def _write(place: pathlib.Path, key: str, part: Sequence[Score], judges: Judges) -> None:
    about = json.dumps({'key': key, 'scores': [dataclasses.asdict(one) for one in part]})
    arrays = {'about': np.frombuffer(about.encode(), np.uint8)}
    if judges.frechet:
        for row, moments in judges.frechet.moments.items():
            arrays |= {f'moments/{row}/{name}': array for name, array in moments.as_arrays().items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    files.write_atomically(place, buffer.getvalue())


def _read(place: pathlib.Path, key: str, judges: Judges) -> list[Score]:
    """The scores in a snapshot, and its sums into the judges; nothing where it is of another evaluation."""
    if judges.frechet:
        judges.frechet.restart()
    try:
        with np.load(place) as archive:
            about = json.loads(archive['about'].tobytes())
            arrays = {name: archive[name] for name in archive.files if name != 'about'} if about['key'] == key else {}
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning('%s cannot be read (%s): its clips are evaluated again', place, error)
        return []
    if about['key'] != key:
        return []
    if judges.frechet:
        judges.frechet.restart(_moments(arrays), films=len(about['scores']))
    return [Score(**one) for one in about['scores']]


def _moments(arrays: Mapping[str, np.ndarray]) -> dict[str, Moments]:
    nested: dict[str, dict[str, np.ndarray]] = {}
    for path, array in arrays.items():
        row, _, name = path.removeprefix('moments/').rpartition('/')
        nested.setdefault(row, {})[name] = array
    return {row: Moments.from_arrays(of) for row, of in nested.items()}


def _together(folder: pathlib.Path, key: str, plan: Plan, judges: Judges, processes: int) -> Results:
    """The parts of all processes, in the order of the films."""
    scores: list[Any] = [None] * plan.count
    merged: dict[str, Moments] = {}
    for index in range(processes):
        part = _read(folder / f'part-{index:05d}-of-{processes:05d}.npz', key, judges)
        scores[index::processes] = part
        if judges.frechet:
            for row, moments in judges.frechet.moments.items():
                merged.setdefault(row, Moments.empty()).merge(moments)
    pooled: dict[str, dict[str, float]] = {}
    notes = dict(judges.notes)
    if judges.frechet:
        judges.frechet.restart(merged)
        distances, warning = judges.frechet.distances()
        pooled = {row: {name: value for name in judges.frechet.names} for row, value in distances.items()}
        notes |= {name: warning for name in judges.frechet.names if warning}
    return _table(scores, pooled, notes, plan, judges)


def _table(scores: Sequence[Score], pooled: dict[str, dict[str, float]], notes: dict[str, str], plan: Plan,
           judges: Judges) -> Results:
    per_clip: dict[str, dict[str, np.ndarray]] = {}
    by_yaw: dict[str, dict[str, np.ndarray]] = {}
    for row in plan.labels:
        names = sorted({name for one in scores for name in one.values.get(row, {})})
        per_clip[row] = {name: np.array([one.values.get(row, {}).get(name, np.nan) for one in scores], np.float64)
                         for name in names}
        names = sorted({name for one in scores for name in one.by_yaw.get(row, {})})
        empty = [[0.0, 0.0]] * (len(YAW_EDGES) - 1)
        by_yaw[row] = {name: np.array([one.by_yaw.get(row, {}).get(name, empty) for one in scores], np.float64)
                       for name in names}
    clips = {'clip_id': np.array([one.clip_id for one in scores], str),
             'speaker_id': np.array([one.speaker_id for one in scores], str),
             'frames': np.array([one.frames for one in scores], int)}
    known = {name for family in judges.families for name in family.names} | set(notes)
    recipes = {name: {**dataclasses.asdict(RECIPES[name]), 'version': VERSION,
                      'weights': {need: judges.weights[need] for need in RECIPES[name].needs
                                  if need in judges.weights}, **plan.recipe_changes.get(name, {})}
               for name in RECIPES if name in known}
    return Results(plan.protocol, plan.dataset, dict(plan.labels), plan.baselines, clips, per_clip, by_yaw, pooled,
                   recipes, notes, dict(plan.row_notes), dict(plan.facts))

