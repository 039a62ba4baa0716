"""Small films, a detector that reads a frame's number from its corner, and judges that need no compilation."""

import zlib

import numpy as np

from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.metrics import fid
from talkinghead_jax.protocols.films import Film, Row
from talkinghead_jax.protocols.job import Plan
from talkinghead_jax.protocols.judges import Judges
from talkinghead_jax.protocols.results import TRUTH
from talkinghead_jax.protocols.scorers import Frechet

FEATURES = 4


def frames(seed: int, count: int, side: int = 16) -> np.ndarray:
    """(count, side, side, 3) uint8: noise, but for an even upper left quarter, as bright as the frame's number."""
    pictures = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)
    pictures[:, :side // 2, :side // 2] = np.arange(count)[:, None, None, None]
    return pictures


def poses(seed: int, count: int) -> np.ndarray:
    """(count, 6) float32: a head that wanders, now and then far to the side."""
    steps = np.random.default_rng(seed).normal(size=(count, 6)) * [0.03, 0.15, 0.02, 1, 1, 1]
    return np.cumsum(steps, axis=0).astype(np.float32)


def landmarks(pose: np.ndarray) -> np.ndarray:
    """(N, 68, 3) float32 px at 256 px: the template in these poses."""
    return rigid.apply_pose(np.tile(face.TEMPLATE, (len(pose), 1, 1)), pose.astype(np.float64)).astype(np.float32)


class NumberDetector:
    """Landmarks of a table, for the number in a frame's corner; zeros, as MediaPipe gives, where none are found."""

    def __init__(self, table: np.ndarray, missing: tuple[int, ...] = ()):
        self.table, self.missing, self.looked = table, missing, 0

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        numbers = images[:, images.shape[1] // 8, images.shape[1] // 8, 0].astype(int)
        found = ~np.isin(numbers, self.missing)
        self.looked += len(images)
        return np.where(found[:, None, None], self.table[numbers], 0).astype(np.float32), found


def film(number: int, count: int = 40, side: int = 16, **fields) -> Film:
    """A film that is a function of its number; fields replaced by `fields`."""
    true = frames(number, count, side)
    made = {row: frames(1000 * zlib.crc32(row.encode()) + number, count, side) for row in ('ours', 'other')}
    return Film(**{
        'clip_id': f'clip{number}', 'speaker_id': f'speaker{number // 2}', 'audio': None, 'reference': true[0],
        'truth': iter(true), 'rows': {row: Row(iter(of)) for row, of in made.items()},
        'scored': np.ones(count, bool), 'pose': poses(number, count), **fields})


def shorten_moments(replace=setattr) -> None:
    """Let `fid.Moments` be those of `FEATURES` numbers, not of 2048."""
    empty = classmethod(lambda cls: cls(0, np.zeros(FEATURES), np.zeros((FEATURES, FEATURES))))
    replace(fid.Moments, 'empty', empty)


class Levels:
    """Mean levels in place of metrics: one a frame, missing in some, and one a film."""

    names = ('ssim@authors', 'detection_failure@mediapipe', 'lse_d@syncnet')

    def begin(self, film, row):
        del film
        return None if row == TRUTH else _Levels()


class _Levels:
    def __init__(self):
        self._highest = 0.0

    def add(self, generated, true):
        level = generated.images.mean((1, 2, 3)) / true.images.mean((1, 2, 3))
        self._highest = max(self._highest, level.max())
        dark = generated.images[:, -1, -1, 0] < 64
        return {'ssim@authors': np.where(dark, np.nan, level), 'detection_failure@mediapipe': dark.astype(np.float64)}

    def end(self):
        return {'lse_d@syncnet': float(self._highest)}


class Sums(Frechet):
    """FID of a frame's mean colours and contrast; only after `shorten_moments`."""

    def __init__(self):
        self._run, self.half, self.moments = self._features, 0, {}

    @staticmethod
    def _features(images):
        colours = images.astype(np.float32)
        return np.concatenate([colours.mean((1, 2)), colours.std((1, 2, 3))[:, None]], axis=1)


def judges(*families, detector=None, **fields) -> Judges:
    return Judges(families or (Levels(),), detector, **{'notes': {}, 'weights': {}, **fields})


def plan(count: int = 5, make=film, **fields) -> Plan:
    """Films of `make`, beside a row that has none."""
    return Plan(**{
        'protocol': 'folders', 'dataset': '', 'baselines': (TRUTH,), 'count': count, 'film': make, 'picture': 'toys',
        'labels': {'ours': 'Ours', 'other': 'Other', 'none': 'None', TRUTH: 'True video'},
        'facts': {'step': '10'}, 'row_notes': {'none': 'not computed: needs a checkpoint of phi'}, **fields})
