"""Videos of several methods as evaluation reads them: frames, their number, sound, and the face's square."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
from ml_collections import ConfigDict

from input_pipeline import detectors, media, preprocess
from input_pipeline.crop import Crop
from talkinghead_jax.errors import Unusable
from talkinghead_jax.specs import CROP_SIZE


def frames(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 RGB frames at 25 a second; UserError where the file is no video."""
    return iter(media.Video(path))


def measure(path: str | os.PathLike) -> tuple[int, int, int]:
    """How many frames `frames` yields, their height and their width; the video is decoded for it."""
    count, shape = 0, (0, 0)
    for frame in media.Video(path):
        count, shape = count + 1, frame.shape[:2]
    return count, *shape


def sound(path: str | os.PathLike) -> np.ndarray | None:
    """(A,) int16 at 16 kHz of the video or of a sound file beside it; None where there is none."""
    try:
        return media.audio_for(path)
    except Unusable as error:
        if error.reason != 'no_sound':
            raise
        return None


def resize(frame: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) uint8 to (size, size, 3), whatever its aspect ratio: area averages going down, bicubic going up."""
    if frame.shape[:2] == (size, size):
        return frame
    smaller = size < min(frame.shape[:2])
    return cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


class FaceSquares:
    """Cuts the square about the face out of videos, where preparation would, and keeps nothing of it on the disk.

    Attributes:
      facts: name -> value: what the squares depend on beside the video.
    """

    def __init__(self, config: ConfigDict):
        """Take the detector and the crop of `config.data`; UserError where they are not there, or damaged."""
        self._options = preprocess.Options(crop=config.data.crop, max_missing=config.data.max_missing, min_frames=1)
        self._detector = detectors.find(config)
        detectors.check(self._detector)  # not once a video
        self.facts = {'square': f'{self._options.crop}, smoothed over {self._options.smoothing} frames, at most '
                                f'{self._options.max_missing:.0%} of them without a face; preparation '
                                f'{preprocess.VERSION}',
                      'square found by': f'{self._detector.kind} {detectors.fingerprint(self._detector)[:16]}'}

    def __call__(self, path: str | os.PathLike) -> Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]]:
        """Find the face of a video.

        Returns:
          What cuts its squares out of its frames (H, W, 3) uint8, or out of those of another video of the same
          scene at any size: (256, 256, 3) uint8 each.

        Raises:
          UserError: the video cannot be read, or has no face that can be followed.
        """
        video = media.Video(path)
        with detectors.open_detector(self._detector) as opened:
            squares = preprocess.find_squares(video, opened, self._options, os.fspath(path))
        height = next(iter(video)).shape[0]

        def cut(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            for frame, square in zip(frames, itertools.chain(squares, itertools.repeat(squares[-1])), strict=False):
                yield _scaled(square, frame.shape[0] / height).apply(frame, CROP_SIZE)

        return cut


def _scaled(square: Crop, scale: float) -> Crop:
    """The same square of a picture that is larger by `scale`."""
    if scale == 1:
        return square
    return Crop(round(square.left * scale), round(square.top * scale), max(round(square.side * scale), 1))
