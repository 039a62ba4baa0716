"""What is judged: a clip's true frames, and the frames that each method made of it, a few at a time."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from talkinghead_jax import specs
from talkinghead_jax.geometry import rigid
from talkinghead_jax.geometry.sketch import to_pixels
from talkinghead_jax.pixels import upscale

CHUNK = 32  # frames in memory, of the truth and of each method


@dataclasses.dataclass(frozen=True)
class Row:
    """One method's film of a clip.

    Attributes:
      frames: yields (S, S, 3) uint8, as many as the truth has; it is consumed once.
      pose: (T, 6) the head poses that drive it, or None where only the frames tell.
    """

    frames: Iterator[np.ndarray]
    pose: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Film:
    """One clip as every method shows it.

    Attributes:
      clip_id: its name.
      speaker_id: who speaks, '' where nobody knows.
      audio: (T, 640) int16, the speech of these frames, or None.
      reference: (S, S, 3) uint8, the picture that methods are given; what identity is compared with.
      truth: yields T true frames (S, S, 3) uint8; consumed once.
      rows: name -> what a method made.
      scored: (T,) bool: False for frames that do not count one by one: no face was found in the true frame, or it
        was given to the methods.
      landmarks: (T, 68, 3) of the true frames, in px of a 256 px crop, or None: then a detector finds them.
      pose: (T, 6) true head poses, or None.
    """

    clip_id: str
    speaker_id: str
    audio: np.ndarray | None
    reference: np.ndarray
    truth: Iterator[np.ndarray]
    rows: Mapping[str, Row]
    scored: np.ndarray
    landmarks: np.ndarray | None = None
    pose: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scored)

    @classmethod
    def empty(cls, clip_id: str, speaker_id: str = '') -> 'Film':
        """A clip of which there is nothing to judge."""
        return cls(clip_id, speaker_id, None, np.zeros((0, 0, 3), np.uint8), iter(()), {}, np.zeros(0, bool))


class Pictures:
    """Some frames, and what was found in them; nothing is looked for twice.

    Attributes:
      images: (N, S, S, 3) uint8.
    """

    def __init__(self, images: np.ndarray, detector: specs.Detector | None = None,
                 landmarks: np.ndarray | None = None, pose: np.ndarray | None = None):
        self.images = images
        self._detector, self._landmarks, self._pose = detector, landmarks, pose
        self._known: dict[Any, Any] = {}

    @functools.cached_property
    def detection(self) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks (N, 68, 3) in px of the frames brought to 256 px, and found (N,) bool."""
        if self._detector is None:
            raise ValueError('there is no landmark detector')
        landmarks, found = self._detector(upscale(self.images, specs.CROP_SIZE))
        return np.asarray(landmarks, np.float32), np.asarray(found, bool)

    @property
    def landmarks(self) -> np.ndarray:
        """(N, 68, 3) px at 256 px: those that were given, else those that are detected."""
        return self.detection[0] if self._landmarks is None else self._landmarks

    @property
    def seen(self) -> np.ndarray:
        """(N,) bool: whether `landmarks` are those of a face."""
        return self.detection[1] if self._landmarks is None else np.ones(len(self.images), bool)

    @property
    def pose(self) -> np.ndarray:
        """(N, 6) head poses: those that were given, else those of the detected landmarks."""
        return self.detected_pose if self._pose is None else self._pose

    @property
    def detected_pose(self) -> np.ndarray:
        """(N, 6) float32 poses of the detected landmarks; NaN where no face is found."""
        def measure() -> np.ndarray:
            landmarks, found = self.detection
            pose = rigid.estimate_pose(landmarks.astype(np.float64))
            return np.where(found[:, None], pose, np.nan).astype(np.float32)

        return self.once('pose', measure)

    @property
    def has_landmarks(self) -> bool:
        """Whether `landmarks` can be had."""
        return self._landmarks is not None or self._detector is not None

    @property
    def has_pose(self) -> bool:
        """Whether `pose` can be had."""
        return self._pose is not None or self._detector is not None

    def once(self, name: Any, compute: Callable[[], Any]) -> Any:
        """What `compute()` returned the first time that it was asked for under this name."""
        if name not in self._known:
            self._known[name] = compute()
        return self._known[name]


def in_picture(landmarks: np.ndarray, size: int) -> np.ndarray:
    """(..., 68, 3) px at 256 px -> (..., 68, 2) px of a picture of side `size`."""
    return np.asarray(to_pixels(np.asarray(landmarks, np.float32)[..., :2], size))


def chunks(film: Film, detector: specs.Detector | None, size: int = CHUNK,
           ) -> Iterator[tuple[slice, Pictures, dict[str, Pictures]]]:
    """The film piece by piece: which frames, the true ones, and each method's.

    Raises:
      ValueError: a method made fewer frames than the truth has.
    """
    for start in range(0, len(film), size):
        part = slice(start, min(start + size, len(film)))
        count = part.stop - start

        def given(values: np.ndarray | None, part: slice = part) -> np.ndarray | None:
            return None if values is None else values[part]

        true = Pictures(_take(film.truth, count, 'the truth'), detector, given(film.landmarks), given(film.pose))
        yield part, true, {name: Pictures(_take(row.frames, count, name), detector)
                           for name, row in film.rows.items()}


def _take(frames: Iterator[np.ndarray], count: int, name: str) -> np.ndarray:
    taken = list(itertools.islice(frames, count))
    if len(taken) < count:
        raise ValueError(f'{name} ends {count - len(taken)} frames early')
    return np.stack(taken)
