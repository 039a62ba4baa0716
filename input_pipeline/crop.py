"""The crop of a clip: one square for all its frames, so that head translation keeps its meaning; or, on request, one
that follows the head.
"""

import dataclasses

import numpy as np

from input_pipeline.media import resize
from talkinghead_jax.geometry.face import AXIS_X, LEFT_EYE, RIGHT_EYE
from talkinghead_jax.specs import CROP_SIZE

# The original framing (reference, Sec. 5.8): a face is about 112 px wide in a crop of 256, its eyes near row 100.
SIDE = 205 / 90  # side of the crop, in faces
EYE_ROW = 100.0  # crop px
EYE_COLUMN = AXIS_X  # crop px
FOLLOWING = 11  # frames: Hanning window over the path of a crop that follows


@dataclasses.dataclass(frozen=True)
class Crop:
    """A square of the frame in whole pixels, and the crop's own side.

    `left` and `top` are the number of the first column and row (negative where the square leaves the frame),
    `side` is in frame px, `size` in crop px. Pixel centres are at integers on both sides.
    """

    left: int
    top: int
    side: int
    size: int = CROP_SIZE

    @property
    def scale(self) -> float:
        """Crop px a frame px."""
        return self.size / self.side

    def to_crop(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) or (..., 2) frame px -> crop px; depth scales like x and y."""
        return (points + self._shift(points, 0.5)) * self.scale - self._shift(points, 0.5, origin=False)

    def from_crop(self, points: np.ndarray) -> np.ndarray:
        """Inverse of `to_crop`."""
        return (points + self._shift(points, 0.5, origin=False)) / self.scale - self._shift(points, 0.5)

    def apply(self, frame: np.ndarray, size: int | None = None) -> np.ndarray:
        """(H, W, 3) uint8 frame -> (size, size, 3) uint8 crop, black beyond the frame."""
        size = size or self.size
        height, width = frame.shape[:2]
        cut = np.zeros((self.side, self.side, 3), np.uint8)
        rows, columns = self._inside(self.top, height), self._inside(self.left, width)
        cut[rows.start - self.top:rows.stop - self.top, columns.start - self.left:columns.stop - self.left] = (
            frame[rows, columns])
        return resize(cut, size)

    def paste(self, frame: np.ndarray, image: np.ndarray, feather: float = 0.08) -> np.ndarray:
        """Put a crop's picture back into its frame.

        Args:
          frame: (H, W, 3) uint8, left as it is.
          image: (S, S, 3) uint8, any S.
          feather: width of the soft border, as a share of the side.

        Returns:
          (H, W, 3) uint8.
        """
        height, width = frame.shape[:2]
        rows, columns = self._inside(self.top, height), self._inside(self.left, width)
        inner = (slice(rows.start - self.top, rows.stop - self.top),
                 slice(columns.start - self.left, columns.stop - self.left))
        ramp = _ramp(self.side, feather * self.side)
        # Where the square leaves the frame, the crop's black beyond it must not bleed in.
        weight = np.minimum(np.minimum(ramp[inner[0]], _ramp(height, 3)[rows])[:, None],
                            np.minimum(ramp[inner[1]], _ramp(width, 3)[columns]))[..., None]
        pasted = frame.copy()
        mixed = weight * resize(image, self.side)[inner] + (1 - weight) * frame[rows, columns]
        pasted[rows, columns] = np.rint(mixed).astype(np.uint8)
        return pasted

    def shows(self, points: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
        """Which (..., 3) points, crop px, lie in the crop and in the (height, width) frame: (...,) bool."""
        where = self.from_crop(points)[..., :2]
        limit = np.array(frame_size[::-1]) - 0.5
        inside = (where >= -0.5) & (where <= limit) & (points[..., :2] >= -0.5) & (points[..., :2] <= self.size - 0.5)
        return inside.all(axis=-1)

    def _shift(self, points: np.ndarray, half: float, origin: bool = True) -> np.ndarray:
        shift = np.zeros(points.shape[-1], points.dtype)
        shift[:2] = half - np.array([self.left, self.top]) * origin
        return shift

    def _inside(self, start: int, limit: int) -> slice:
        low = min(max(start, 0), limit)
        return slice(low, min(max(start + self.side, low), limit))


def static_crop(landmarks: np.ndarray) -> Crop:
    """The crop of a clip from its (T, 68, 3) landmarks (frame px): the original framing, averaged over time."""
    return _around(_eyes(landmarks).mean(axis=0), _side(landmarks))


def smoothed_crops(landmarks: np.ndarray, detected: np.ndarray) -> list[Crop]:
    """A crop a frame: the side is the clip's, the corner follows the eyes (reference, Sec. 5.8, but without its lag).

    Args:
      landmarks: (T, 68, 3) frame px, gaps filled.
      detected: (T,) bool: which frames say how large the face is.
    """
    path = centred_hanning(_eyes(landmarks), FOLLOWING)
    side = _side(landmarks[detected])
    return [_around(eyes, side) for eyes in path]


def centred_hanning(values: np.ndarray, window: int) -> np.ndarray:
    """Smooth (T, ...) over time, in its own dtype; the ends repeat, so nothing lags and the length stays."""
    if window < 3:
        return values
    weights = np.hanning(window)
    weights = (weights / weights.sum()).astype(values.dtype)
    ends = (window // 2, (window - 1) // 2)
    padded = np.pad(values, [ends] + [(0, 0)] * (values.ndim - 1), 'edge')
    return sum(weight * padded[i:i + len(values)] for i, weight in enumerate(weights))


def _side(landmarks: np.ndarray) -> int:
    face = np.ptp(np.asarray(landmarks, np.float64)[..., :2], axis=1).max(axis=-1).mean()
    return max(round(SIDE * face), 2)


def _eyes(landmarks: np.ndarray) -> np.ndarray:
    """(T, 2) frame px: the middle between both eyes."""
    points = np.asarray(landmarks, np.float64)[..., :2]
    return (points[:, RIGHT_EYE].mean(axis=1) + points[:, LEFT_EYE].mean(axis=1)) / 2


def _around(eyes: np.ndarray, side: int) -> Crop:
    corner = eyes + 0.5 - (np.array([EYE_COLUMN, EYE_ROW]) + 0.5) * side / CROP_SIZE
    return Crop(left=round(corner[0]), top=round(corner[1]), side=side)


def _ramp(length: int, width: float) -> np.ndarray:
    """(length,) weights that rise from 0 to 1 over `width` px at both ends."""
    distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return np.clip(distance / max(width, 1.0), 0.0, 1.0)
