"""Which clips are worth a look, and their videos: made once more, since nobody can keep those of all clips."""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from talkinghead_jax import specs
from talkinghead_jax.protocols.films import Film
from talkinghead_jax.protocols.job import Plan
from talkinghead_jax.protocols.recipes import HIGHER, LOWER, POOL
from talkinghead_jax.protocols.results import TRUTH, Results

SHOWN = 3  # best clips of a method, and as many worst
ALL = -1
LONGEST = 250  # frames of a kept video: 10 s
_PREFERRED = ('lmd@mean20-mediapipe', 'ssim@authors')


def headline(results: Results, row: str) -> str:
    """The metric by which the clips of a row are called good or bad: of the mouth, else of the picture; '' if none
    with a better end has a value."""
    def fits(name: str) -> bool:
        recipe = results.recipes[name]
        return recipe['level'] != POOL and recipe['better'] in (LOWER, HIGHER)

    names = (*_PREFERRED, *results.metrics())
    return next((name for name in names if results.count(row, name) and fits(name)), '')


def ranked(results: Results, row: str, metric: str) -> np.ndarray:
    """Numbers of the clips that have a value, the best first."""
    values = np.asarray(results.per_clip[row][metric], np.float64)
    order = np.argsort(-values if results.recipes[metric]['better'] == HIGHER else values, kind='stable')
    return order[np.isfinite(values[order])]


def extremes(results: Results, row: str, shown: int = SHOWN) -> tuple[list[int], list[int]]:
    """Numbers of the best and of the worst clips of a row, by its headline; no clip is both."""
    metric = headline(results, row)
    order = ranked(results, row, metric).tolist() if metric else []
    count = min(shown, len(order) // 2)
    return (order[:count], order[::-1][:count]) if count else (order[:shown], [])


@dataclasses.dataclass(frozen=True)
class Moments:
    """A few moments of a clip as every method shows them.

    Attributes:
      clip_id: its name.
      seconds: of the N moments.
      rows: label -> (N, S, S, 3) uint8.
    """

    clip_id: str
    seconds: Sequence[float]
    rows: Mapping[str, np.ndarray]


def choose(results: Results, shown: int = SHOWN) -> list[int]:
    """Numbers of the clips whose videos are kept: the best and the worst of each method that is no baseline.

    `ALL` instead of their number keeps those of all clips.
    """
    if shown == ALL:
        return list(range(len(results.clips['clip_id'])))
    methods = [row for row in results.labels if row not in results.baselines]
    return sorted({number for row in methods for of in extremes(results, row, shown) for number in of})


def spread(count: int, most: int) -> list[int]:
    """At most `most` numbers of `count`, evenly spread; all of them where `most` is 0."""
    taken = min(count, most) if most else count
    return [int((i + 0.5) * count / taken) for i in range(taken)]


def write_videos(folder: str | os.PathLike, where: str, plan: Plan, results: Results, numbers: Sequence[int],
                 write: Callable[..., object], progress: Callable[[Iterable], Iterable] | None = None) -> None:
    """Make the videos of some clips again, by every method, and name them in `results.videos`.

    Args:
      folder: of the results.
      where: folder within it; the videos go to WHERE/ROW/.
      plan: what was evaluated.
      results: get the paths.
      numbers: of the films.
      write: path, frames, (A,) int16 sound or None -> a video file, as `input_pipeline.media.write_video`.
      progress: wraps the numbers.
    """
    folder = pathlib.Path(folder)
    results.videos = {}
    for number in progress(numbers) if progress else numbers:
        film = plan.film(number)
        if not len(film):
            continue
        sound = None if film.audio is None else film.audio[:LONGEST].reshape(-1)
        for row, frames in _all_rows(film).items():
            path = pathlib.PurePath(where, row, f'{number:05d}.mp4')
            write(folder / path, itertools.islice(frames, LONGEST), sound)
            results.videos.setdefault(row, {})[film.clip_id] = path.as_posix()


def moments(plan: Plan, numbers: Iterable[int], columns: int) -> Iterator[Moments]:
    """Films for a picture grid (Fig. 7), one after another: the same few frames of every method."""
    for number in numbers:
        film = plan.film(number)
        if not len(film):
            continue
        chosen = sorted({round(i * (len(film) - 1) / max(columns - 1, 1)) for i in range(columns)})
        rows = {plan.labels.get(row, row): np.stack(list(_pick(frames, chosen)))
                for row, frames in _all_rows(film).items()}
        yield Moments(film.clip_id, [frame / specs.FRAME_RATE for frame in chosen], rows)


def _pick(frames: Iterable[np.ndarray], chosen: Sequence[int]) -> Iterator[np.ndarray]:
    wanted = set(chosen)
    return (frame for i, frame in enumerate(itertools.islice(frames, max(chosen) + 1)) if i in wanted)


def _all_rows(film: Film) -> dict[str, Iterable[np.ndarray]]:
    return {TRUTH: film.truth, **{name: row.frames for name, row in film.rows.items()}}
