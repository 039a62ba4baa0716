"""Films one by one to a table: over several processes, and resumed where it was killed.

Process p of P takes films p, p + P, ... Once a minute it leaves a snapshot of all that it knows, scores and sums, as
one file; killed, it goes on behind the last one, and ends in the same numbers. What is held of a film, once it is
scored, are its numbers; FID has sums of a fixed size.
"""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics.fid import Moments
from talkinghead_jax.protocols.films import Film
from talkinghead_jax.protocols.judges import Judges
from talkinghead_jax.protocols.part import Part, read
from talkinghead_jax.protocols.recipes import DETECTOR, RECIPES
from talkinghead_jax.protocols.results import Results
from talkinghead_jax.protocols.scorers_in_time import DRIVING
from talkinghead_jax.protocols.scoring import score
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
      picture: what part of the true frames the pictures are, and their size.
      facts: as in `Results`; what the numbers depend on belongs there, for another fact is another evaluation.
      row_notes: as in `Results`.
      needs: metric -> what it needs here beside what its recipe says.
    """

    protocol: str
    dataset: str
    labels: Mapping[str, str]
    baselines: tuple[str, ...]
    count: int
    film: Callable[[int], Film]
    picture: str
    facts: Mapping[str, str]
    row_notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needs: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def key_of(plan: Plan, judges: Judges) -> str:
    """A digest of everything that the numbers depend on: where it is the same, nothing is computed again."""
    names = sorted(name for family in judges.families for name in family.names)
    about = [plan.protocol, plan.dataset, dict(plan.labels), plan.baselines, plan.count, plan.picture,
             dict(plan.facts), judges.weights, judges.notes, judges.detector is not None,
             {name: RECIPES[name].version for name in names}]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def run(folder: str | os.PathLike, plan: Plan, judges: Judges,
        progress: Callable[[Iterable], Iterable] | None = None, snapshot_seconds: float = SNAPSHOT_SECONDS,
        ) -> Results | None:
    """Score this process's films, wait for the others, and put everything together.

    Args:
      folder: for the snapshots; all processes see it.
      plan: what is evaluated.
      judges: by what; the same in all processes.
      progress: wraps the numbers of the films that are left, as `tqdm.tqdm` does.
      snapshot_seconds: between snapshots.

    Returns:
      The results in process 0, None in the others.

    Raises:
      UserError: no film has a frame to be judged, or the snapshot of a process is gone.
    """
    folder, key = pathlib.Path(folder), key_of(plan, judges)
    index, count = jax.process_index(), jax.process_count()
    mine, place = range(index, plan.count, count), _place(folder, index, count)
    metrics = [name for family in judges.families for name in family.names]
    part = read(place, key) or Part(list(plan.labels), metrics)
    if judges.frechet:
        judges.frechet.moments = part.moments
    left, last = mine[len(part):], time.monotonic()
    if part and left:
        _log.warning('%s: goes on behind %d of %d clips', plan.protocol, len(part), len(mine))
    for number in progress(left) if progress else left:
        if judges.frechet:
            judges.frechet.half = number % 2  # whichever process it is that takes this film
        part.add(score(plan.film(number), judges))
        if time.monotonic() - last >= snapshot_seconds:
            part.write(place, key)
            last = time.monotonic()
    if left or not place.is_file():
        part.write(place, key)
    hosts.wait_for_all(f'evaluated {plan.protocol}')
    return _together(folder, key, plan, judges) if index == 0 else None


def clear(folder: str | os.PathLike) -> None:
    """Remove the snapshots, once the results are kept."""
    for place in pathlib.Path(folder, 'parts').glob('*part-*'):  # a killed writer leaves .part-..
        place.unlink()


def _place(folder: pathlib.Path, index: int, count: int) -> pathlib.Path:
    return folder / 'parts' / f'part-{index:05d}-of-{count:05d}.npz'


def _together(folder: pathlib.Path, key: str, plan: Plan, judges: Judges) -> Results:
    """The parts of all processes, in the order of the films."""
    count = jax.process_count()
    parts = [read(_place(folder, index, count), key) for index in range(count)]
    for index, part in enumerate(parts):
        if part is None or len(part) != len(range(index, plan.count, count)):
            raise UserError(f'{_place(folder, index, count)} is not the whole part of process {index}; want a '
                            '--workdir that all processes see, and the same networks in the assets of each')
    clips, values, counted = (_interleave([getattr(part, name) for part in parts], plan.count)
                              for name in ('clips', 'values', 'counted'))
    if plan.count and not any(frames for *_, frames in clips):
        raise UserError(f'no clip of {plan.protocol} can be judged; the warnings above say why')
    pooled: dict[str, dict[str, float]] = {}
    notes = dict(judges.notes)
    if judges.frechet:
        merged: dict[str, Moments] = {}
        for part in parts:
            for row, moments in part.moments.items():
                merged.setdefault(row, Moments.empty()).merge(moments)
        judges.frechet.moments = merged
        distances, warning = judges.frechet.distances()
        pooled = {row: dict.fromkeys(judges.frechet.names, value) for row, value in distances.items()}
        notes |= {name: warning for name in judges.frechet.names if warning}
    first = parts[0]
    tables = (_named(first, np.stack(of, axis=-1), dtype) for of, dtype in ((values, np.float64), (counted, int)))
    yaw = _named(first, sum(part.yaw for part in parts)[:, :, None], np.float64)
    return _results(clips, *tables, yaw, pooled, notes, plan, judges)


def _interleave(parts: Sequence[Sequence[Any]], count: int) -> list[Any]:
    """Films of process 0, 1, ... as they were dealt out."""
    found: list[Any] = [None] * count
    for index, part in enumerate(parts):
        found[index::len(parts)] = part
    return found


def _named(part: Part, table: np.ndarray, dtype: type) -> dict[str, dict[str, np.ndarray]]:
    """(rows, metrics, ...) -> row -> metric -> (...), without what is empty: NaN, or no frame counted."""
    def empty(of: np.ndarray) -> bool:
        return bool(np.isnan(of).all()) if of.dtype.kind == 'f' and of.ndim == 1 else not of.any()

    return {row: {name: table[i, j].astype(dtype) for j, name in enumerate(part.metrics) if not empty(table[i, j])}
            for i, row in enumerate(part.rows)}


def _results(clips: Sequence[Sequence[Any]], per_clip: dict, counted: dict, by_yaw: dict,
             pooled: dict[str, dict[str, float]], notes: dict[str, str], plan: Plan, judges: Judges) -> Results:
    found = {name for of in (*per_clip.values(), *pooled.values()) for name in of}
    for name in (name for family in judges.families for name in family.names if name not in found):
        needs = (*RECIPES[name].needs, *plan.needs.get(name, ()))
        if judges.detector is None and DETECTOR in needs:
            notes[name] = f'not computed: needs {DETECTOR}'
        elif not name.endswith(f'@{DRIVING}'):  # where nothing is driven, there is nothing to miss
            notes[name] = 'no value: no clip is long enough, or has the sound or the faces that it wants'
    facts = dict(plan.facts)
    if lost := sum(not frames for *_, frames in clips):
        facts['left out'] = f'{lost} of {len(clips)} clips, of which no frame can be judged'
    columns = dict(zip(('clip_id', 'speaker_id', 'frames'), zip(*clips, strict=True), strict=True))
    clips = {name: np.array(column, int if name == 'frames' else str) for name, column in columns.items()}
    recipes = {name: _recipe(name, plan, judges) for name in RECIPES if name in found | set(notes)}
    return Results(plan.protocol, plan.dataset, dict(plan.labels), plan.baselines, clips, per_clip, by_yaw, pooled,
                   recipes, notes, dict(plan.row_notes), facts, counted=counted)


def _recipe(name: str, plan: Plan, judges: Judges) -> dict[str, Any]:
    """A recipe as it was followed here."""
    recipe = RECIPES[name]
    return {**dataclasses.asdict(recipe), 'picture': '' if name.endswith(f'@{DRIVING}') else plan.picture,
            'weights': {need: judges.weights[need] for need in recipe.needs if need in judges.weights}}
