"""PRNet as a detector: landmarks and mesh of a face in one pass, on whatever device JAX has.

The network sees a square around the face, so the face must be known before: the square follows the landmarks of
the batch before. That costs one network call a batch and keeps the square still within it; a head moves little in
the third of a second that a batch lasts, and the published square has a margin of 0.3 faces on each side. PRNet
finds a face in any picture, and has no score. Three things therefore tell that it looks at the right place: the
landmarks want nearly the square that was shown; they are in the frame; and a face detector, asked once a batch, in
its last frame, sees a face there. Where one fails, the face detector is asked frame by frame, and the network looks
twice: at the detector's box, then at the square of the landmarks that it found.
"""

import contextlib
import functools
import itertools
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self

import cv2
import numpy as np

from input_pipeline import face_boxes, position_map_mesh
from input_pipeline.face_tracking import Detections
from talkinghead_jax.errors import UserError
from talkinghead_jax.specs import LANDMARKS
from third_party import assets, convert

SIZE = position_map_mesh.SIDE  # px: of the crop and of the position map
BATCH = 8  # frames in a network call
WEIGHTS = 'prnet.npz'
LEAST_CONFIDENCE = 0.3  # of a face that counts as found: a square twice as large, or 0.3 sides off, is as low
# The published crop (PRNet's api.py): square of this many mean sides of a box, its centre this many sides lower.
_OF_BOX, _DOWN = 1.58, 0.14
_OF_LANDMARKS = 1.6

Network = Callable[[np.ndarray], Any]  # (B, 256, 256, 3) uint8 RGB -> (B, 256, 256, 3) crop px
Boxes = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 RGB -> (N, 4) left, top, right, bottom, frame px


class Square(NamedTuple):
    """What is shown to the network: frame px, between the centres of its outermost pixels."""

    left: float
    top: float
    side: float

    @classmethod
    def of_box(cls, box: np.ndarray) -> Self:
        """Around a detector's box, (4,) left, top, right, bottom."""
        side = (box[2] - box[0] + box[3] - box[1]) / 2
        return cls._around((box[0] + box[2]) / 2, (box[1] + box[3]) / 2 + _DOWN * side, _OF_BOX * side)

    @classmethod
    def of_landmarks(cls, landmarks: np.ndarray) -> Self:
        """Around (L, 2 or more) landmarks."""
        low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
        return cls._around(*(low + high) / 2, _OF_LANDMARKS * (high - low).mean())

    @classmethod
    def of_frame(cls, frame: np.ndarray) -> Self:
        """The largest in the middle of a frame."""
        height, width = frame.shape[:2]
        return cls._around((width - 1) / 2, (height - 1) / 2, max(min(height, width) - 1, 1))

    @classmethod
    def _around(cls, x: float, y: float, side: float) -> Self:
        return cls(float(x - side / 2), float(y - side / 2), float(side))

    def overlap(self, other: 'Square') -> float:
        """Area of the intersection over that of the union; 0 where either is a point or not finite."""
        width, height = (max(min(a + self.side, b + other.side) - max(a, b), 0.0)
                         for a, b in zip(self[:2], other[:2], strict=True))
        union = self.side ** 2 + other.side ** 2 - width * height
        return width * height / union if 0 < union < np.inf else 0.0

    def cut(self, frame: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (256, 256, 3) uint8: bilinear as published, black beyond the frame."""
        scale = (SIZE - 1) / self.side
        matrix = np.array([[scale, 0, -scale * self.left], [0, scale, -scale * self.top]])
        return cv2.warpAffine(frame, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) crop px -> frame px; depth scales like x and y."""
        return points * (self.side / (SIZE - 1)) + np.array([self.left, self.top, 0.0], points.dtype)


class PositionMapDetector:
    """PRNet, 43,867 points; to be used in a `with` statement. The zero of z is in the middle of the network's range.

    The main face of a clip is the one whose size, summed over the frames in which it is followed, is largest, as
    with MediaPipe. Confidence is the overlap (intersection over union) of the square shown to the network with the
    square around the landmarks found in it, times the share of the landmarks that are in the frame: 1 where the
    network finds the face as large and where it was expected, nothing about how well it fits.
    """

    name = 'prnet'

    def __init__(self, folder: str | os.PathLike, network: Network | None = None, boxes: Boxes | None = None,
                 batch: int = BATCH, landmarker: str | os.PathLike = ''):
        """Read the index files.

        Args:
          folder: has them and prnet.npz (third_party/prnet/README.md).
          network: instead of the folder's.
          boxes: face detector instead of MediaPipe's; without either, the largest square of a frame is taken for
            the face's first, and nobody notices where a face vanishes while its background stays.
          batch: frames in a network call.
          landmarker: face_landmarker.task, in which MediaPipe's face detector is; '' for none.

        Raises:
          UserError: an index file is missing or damaged.
        """
        self.folder, self.batch = pathlib.Path(folder), batch
        self._mesh = position_map_mesh.load(self.folder)
        self._given = network, boxes
        self._landmarker = landmarker
        self._network = self._boxes = None
        self._stack = contextlib.ExitStack()

    @property
    def triangles(self) -> np.ndarray:
        """(F, 3) int32: the mesh topology."""
        return self._mesh.triangles

    def __enter__(self) -> Self:
        self._network = self._given[0] or load_network(self.folder)
        self._boxes = self._given[1] or self._open_boxes(self._stack)
        return self

    def __exit__(self, *error: object) -> None:
        self._network = self._boxes = None
        self._stack.close()

    def detect(self, frames: Iterable[np.ndarray]) -> Detections:
        """Follow the main face through (H, W, 3) uint8 RGB frames: see `Detections`."""
        if self._network is None:
            raise RuntimeError('PositionMapDetector is used outside its `with` statement')
        vertices, frames = len(self._mesh.vertices), iter(frames)
        follower = _Follower(self._look, self._boxes, vertices + LANDMARKS)
        parts = [(np.zeros((0, vertices + LANDMARKS, 3), np.float32), np.zeros(0, np.float32), np.zeros(0, int))]
        while batch := list(itertools.islice(frames, self.batch)):
            parts.append(follower.follow(batch))
        points, confidence, tracks = map(list, zip(*parts, strict=True))
        del parts
        points, confidence, tracks = _joined(points), np.concatenate(confidence), np.concatenate(tracks)
        detected = (tracks == follower.main()) & (tracks >= 0)
        replaced = (tracks >= 0) & ~detected
        points[~detected], confidence[~detected] = 0, 0
        return Detections(points[:, vertices:], points[:, :vertices], detected, confidence, replaced)

    def _look(self, frames: Sequence[np.ndarray], squares: Sequence[Square]) -> tuple[np.ndarray, np.ndarray]:
        """Show squares of as many frames to the network: (N, V + L, 3) frame px and (N,) confidence, float32."""
        crops = np.zeros((self.batch, SIZE, SIZE, 3), np.uint8)
        for crop, frame, square in zip(crops, frames, squares, strict=False):
            crop[:] = square.cut(frame)
        maps = np.asarray(self._network(crops), np.float32).reshape(self.batch, -1, 3)
        points = maps[:, np.append(self._mesh.vertices, self._mesh.landmarks)]
        points = np.stack([square.to_frame(part) for part, square in zip(points, squares, strict=False)])
        return points, np.array([_confidence(part[-LANDMARKS:], *pair)
                                 for part, *pair in zip(points, squares, frames, strict=True)], np.float32)

    def files(self) -> list[pathlib.Path]:
        """What decides what is found: the index files, the weights, and the face detector's bundle if there is one.

        Raises:
          UserError: there are no weights.
        """
        used = [self.folder / name for name in position_map_mesh.FILES] + [_weights(self.folder)]
        if self._landmarker:
            used.append(pathlib.Path(self._landmarker))
        return [path for path in used if path.is_file()]

    def check(self) -> None:
        """Whether it can be opened, without a word to the accelerator.

        Raises:
          UserError: weights or face detector are missing or damaged.
        """
        read_weights(self.folder)
        with contextlib.ExitStack() as stack:
            self._open_boxes(stack)

    def _open_boxes(self, stack: contextlib.ExitStack) -> Boxes | None:
        if self._landmarker:
            return stack.enter_context(face_boxes.FaceBoxes(self._landmarker))
        logging.warning('no face detector: PRNet takes the whole frame for the first box; give --landmarker=FILE')
        return None


class _Follower:
    """Follows faces through the batches of one clip, `points` points each."""

    def __init__(self, look: Callable[..., tuple[np.ndarray, np.ndarray]], boxes: Boxes | None, points: int):
        self._look, self._boxes, self._points = look, boxes, points
        self._squares: list[Square] = []  # where each track was last seen
        self._sizes: list[float] = []  # of each track, summed over its frames
        self._track, self._lost = -1, True  # the one that is or was followed

    def main(self) -> int:
        """The track whose sizes add up to most; -1 where there is none."""
        return int(np.argmax(self._sizes)) if self._sizes else -1

    def follow(self, frames: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(N, P, 3) frame px, (N,) confidence, and (N,) track of each frame, -1 where there is no face."""
        tracks = np.full(len(frames), self._track)
        if self._lost:
            points = np.zeros((len(frames), self._points, 3), np.float32)
            confidence = np.zeros(len(frames), np.float32)
        else:
            points, confidence = self._look(frames, [self._squares[self._track]] * len(frames))
            if confidence[-1] < LEAST_CONFIDENCE or not self._sees(frames[-1], points[-1]):
                confidence[:] = 0
        lost = np.flatnonzero(confidence < LEAST_CONFIDENCE)
        tracks[lost] = -1
        for t, square in self._find(frames, lost, points, confidence).items():
            tracks[t] = self._track_at(square)
        for t in np.flatnonzero(tracks >= 0):
            self._track = int(tracks[t])
            self._squares[self._track] = square = Square.of_landmarks(points[t, -LANDMARKS:])
            self._sizes[self._track] += square.side
        self._lost = bool(tracks[-1] < 0)
        return points, confidence, tracks

    def _sees(self, frame: np.ndarray, points: np.ndarray) -> bool:
        """Whether there is a face where these points are."""
        if self._boxes is None:
            return True
        found = Square.of_landmarks(points[-LANDMARKS:])
        return any(Square.of_box(box).overlap(found) >= LEAST_CONFIDENCE for box in self._boxes(frame))

    def _find(self, frames: list[np.ndarray], lost: np.ndarray, points: np.ndarray,
              confidence: np.ndarray) -> dict[int, Square]:
        """Look for a face in the frames numbered `lost`; writes into `points` and `confidence`."""
        squares = {int(t): self._first_square(frames[t]) for t in lost}
        for _ in range(2):  # first at a box, then at the landmarks found in it
            squares = {t: square for t, square in squares.items() if square is not None}
            if not squares:
                break
            found = list(squares)
            points[found], confidence[found] = self._look([frames[t] for t in found], list(squares.values()))
            squares = {t: Square.of_landmarks(points[t, -LANDMARKS:]) for t in found
                       if confidence[t] >= LEAST_CONFIDENCE}
        return squares

    def _first_square(self, frame: np.ndarray) -> Square | None:
        """Around the face where one was last seen, else around the largest; None where there is none."""
        if self._boxes is None:
            return Square.of_frame(frame)
        seen = self._squares[self._track] if self._track >= 0 else Square(0, 0, 0)
        squares = [square for square in map(Square.of_box, self._boxes(frame)) if square.side > 1]
        return max(squares, key=lambda square: (square.overlap(seen), square.side), default=None)

    def _track_at(self, square: Square) -> int:
        """The track last seen about there, or a new one."""
        overlaps = [square.overlap(seen) for seen in self._squares]
        if overlaps and max(overlaps) >= LEAST_CONFIDENCE:
            return int(np.argmax(overlaps))
        self._squares.append(square)
        self._sizes.append(0.0)
        return len(self._squares) - 1


def _confidence(landmarks: np.ndarray, square: Square, frame: np.ndarray) -> float:
    """0 .. 1: see `PositionMapDetector`."""
    if not np.isfinite(landmarks).all():
        return 0.0
    limit = np.array(frame.shape[1::-1]) - 0.5
    inside = ((landmarks[:, :2] >= -0.5) & (landmarks[:, :2] <= limit)).all(axis=-1)
    return square.overlap(Square.of_landmarks(landmarks)) * inside.mean()


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """`np.concatenate`, but each part is let go once it is copied: those of a film are large."""
    end = sum(map(len, parts))
    whole = np.empty((end, *parts[0].shape[1:]), parts[0].dtype)
    while parts:  # the last first: the heap shrinks from its end
        part = parts.pop()
        whole[end - len(part):end] = part
        end -= len(part)
    return whole


@functools.lru_cache(maxsize=1)  # compiling takes seconds, and a worker prepares one clip after the other
def load_network(folder: pathlib.Path) -> Network:
    """The converted network in `folder`, else in the assets, compiled for the device that JAX has.

    Raises:
      UserError: it is missing or damaged.
    """
    import jax
    import jax.numpy as jnp

    from talkinghead_jax.models.unprojection import UnprojectionNet
    variables, width = read_weights(folder)
    variables, net = jax.device_put(variables), UnprojectionNet(width=width, residual=False)
    unread = jnp.zeros((SIZE, SIZE, 3))  # the mean map, which PRNet's form does not use
    compiled = jax.jit(lambda variables, crops: net.apply(variables, crops.astype(jnp.float32) / 127.5 - 1, unread))
    return lambda crops: compiled(variables, crops)


def read_weights(folder: pathlib.Path) -> tuple[dict[str, Any], int]:
    """Variables of the converted network in `folder`, else in the assets, and its width.

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        variables = assets.read(_weights(folder))
        return variables, variables['params']['enter']['kernel'].shape[-1]
    except (ValueError, KeyError) as error:
        raise UserError(_wanted(folder, error)) from error


def _weights(folder: pathlib.Path) -> pathlib.Path:
    """The converted network in `folder`, else in the assets."""
    own = folder / WEIGHTS
    try:
        return own if own.is_file() else assets.find('prnet')
    except FileNotFoundError as error:
        raise UserError(_wanted(folder, error)) from error


def _wanted(folder: pathlib.Path, error: Exception) -> str:
    return f'{folder} has no usable {WEIGHTS} ({error}); {convert.instructions("prnet")}, and put the result there'
