"""MediaPipe as a plain function from pictures to landmarks: what metrics on generated frames need."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Iterator

import numpy as np

from input_pipeline import face_tracking
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError


@contextlib.contextmanager
def detector(landmarker: str = '') -> Iterator[specs.Detector | None]:
    """Frames (N, H, W, 3) uint8 -> landmarks (N, 68, 3) px and detected (N,) bool, while the context is open.

    Args:
      landmarker: path of `face_landmarker.task`; '' looks for it, and gives None where it is not found.

    Raises:
      UserError: `landmarker` is given and is no such file.
    """
    try:
        path = face_tracking.find_landmarker(landmarker)
    except UserError:
        if landmarker:
            raise
        path = None
    if path is None:
        yield None
        return
    with face_tracking.MediaPipeDetector(path) as tracker, open(path, 'rb') as file:
        yield _Detect(tracker, hashlib.file_digest(file, 'sha256').hexdigest())


@dataclasses.dataclass(frozen=True)
class _Detect:
    """What `detector` gives; it can say what it is.

    Attributes:
      tracker: opened.
      sha256: of its file.
    """

    tracker: face_tracking.MediaPipeDetector
    sha256: str
    version: str = importlib.metadata.version('mediapipe')

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # One by one: they are pictures of different people, not a film in which to follow a face.
        found = [self.tracker.detect(image[None]) for image in images]
        landmarks = np.array([one.landmarks[0] for one in found], np.float32)
        return (landmarks.reshape(-1, specs.LANDMARKS, 3),  # of no pictures, too
                np.array([one.detected[0] for one in found], bool))
