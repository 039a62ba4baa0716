"""A film through all metrics: numbers a clip and method, and by how far the true head is turned."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from talkinghead_jax.geometry import rigid
from talkinghead_jax.protocols.films import Film, chunks
from talkinghead_jax.protocols.judges import Judges
from talkinghead_jax.protocols.recipes import FRAME, RECIPES
from talkinghead_jax.protocols.results import TRUTH, YAW_EDGES


@dataclasses.dataclass(frozen=True)
class Score:
    """What one film came to.

    Attributes:
      clip_id, speaker_id: of the film.
      frames: its length.
      values: row -> metric -> number; of metrics of level 'frame', the mean over the frames that have a value.
      by_yaw: row -> metric of level 'frame' -> (bins, 2): sum and number of the frames' values.
      counted: row -> metric of level 'frame' -> number of frames that have a value.
    """

    clip_id: str
    speaker_id: str
    frames: int
    values: dict[str, dict[str, float]]
    by_yaw: dict[str, dict[str, list[list[float]]]]
    counted: dict[str, dict[str, int]]


def score(film: Film, judges: Judges) -> Score:
    """Watch the film once, a few frames at a time, with every method beside the truth; a film may have no frame."""
    if not len(film):
        return Score(film.clip_id, film.speaker_id, 0, {}, {}, {})
    rows = (TRUTH, *film.rows)
    at_work = {row: [follower for family in judges.families if (follower := family.begin(film, row))] for row in rows}
    sums = {row: _Sums() for row in rows}
    for part, true, generated in chunks(film, judges.detector):
        pictures = {TRUTH: true, **generated}
        yaw = yaw_degrees(true.pose) if true.has_pose else np.full(part.stop - part.start, np.nan)
        counts = film.scored[part] & true.seen if true.has_landmarks else film.scored[part]
        for row in rows:
            for follower in at_work[row]:
                sums[row].add(follower.add(pictures[row], true), counts, yaw)
    values = {}
    for row in rows:
        ends = [follower.end() for follower in at_work[row]]
        values[row] = sums[row].means() | {name: value for of in ends for name, value in of.items()}
    return Score(film.clip_id, film.speaker_id, len(film), values, {row: sums[row].by_yaw() for row in rows},
                 {row: sums[row].counted() for row in rows})


class _Sums:
    """Sum and number of the frames' values, together and by yaw."""

    def __init__(self) -> None:
        self._of: dict[str, np.ndarray] = {}  # metric -> (bins + 1, 2); the last is of frames without a yaw

    def add(self, values: Mapping[str, np.ndarray], scored: np.ndarray, yaw: np.ndarray) -> None:
        bins = np.digitize(yaw, YAW_EDGES[1:-1])  # what is beyond the last edge counts to the last bin
        bins = np.where(np.isnan(yaw), len(YAW_EDGES) - 1, bins)
        for name, of in values.items():
            table = self._of.setdefault(name, np.zeros((len(YAW_EDGES), 2)))
            # Where no face is found in the truth, it is still of interest how often.
            counts = ~np.isnan(of) & (scored | name.startswith('detection_failure'))
            np.add.at(table[:, 0], bins[counts], of[counts])
            np.add.at(table[:, 1], bins[counts], 1.0)

    def means(self) -> dict[str, float]:
        totals = {name: table.sum(axis=0) for name, table in self._of.items()}
        return {name: float(total / count) if count else math.nan for name, (total, count) in totals.items()}

    def counted(self) -> dict[str, int]:
        return {name: int(table[:, 1].sum()) for name, table in self._of.items()}

    def by_yaw(self) -> dict[str, list[list[float]]]:
        return {name: table[:-1].tolist() for name, table in self._of.items() if RECIPES[name].level == FRAME}


def yaw_degrees(pose: np.ndarray) -> np.ndarray:
    """By how much heads (N, 6) are turned to the side, degrees in [0, 180]: the nose's direction in x and z."""
    turn = np.swapaxes(rigid.rotation_matrix(np.asarray(pose, np.float64)[:, :3]), -1, -2)
    nose = turn[..., 2]  # the frontal face's +z, towards the viewer, as the picture shows it
    return np.abs(np.degrees(np.arctan2(nose[:, 0], nose[:, 2])))


