"""Videos of several methods as evaluation reads them: frames, their number, sound, and the face's square."""

import os
import pathlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from ml_collections import ConfigDict

from input_pipeline import media, preprocess
from input_pipeline import prepare as preparation
from input_pipeline.crop import Crop
from talkinghead_jax.errors import Unusable, UserError
from talkinghead_jax.specs import CROP_SIZE


def frames(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 RGB frames at 25 a second; UserError where the file is no video."""
    return iter(media.Video(path))


def count(path: str | os.PathLike) -> int:
    """How many frames `frames` yields; the video is decoded for it."""
    return sum(1 for _ in media.Video(path))


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


def face_square(path: str | os.PathLike, config: ConfigDict,
                data_dir: str | os.PathLike) -> Callable[[np.ndarray], np.ndarray]:
    """Track the face of a video (through the cache in `data_dir`), and cut its square out of a frame.

    Returns:
      (H, W, 3) uint8, of the video or of another that shows the same scene at any size -> (256, 256, 3).

    Raises:
      UserError: the video has no face that can be tracked; the function, where a frame has another aspect ratio.
    """
    records, _ = preparation.prepare_inputs([path], config, data_dir)
    square = preprocess.crop_of(records[0])
    height, width = next(frames(path)).shape[:2]

    def cut(frame: np.ndarray) -> np.ndarray:
        scale = frame.shape[0] / height
        if abs(frame.shape[1] / width / scale - 1) > 0.02:
            raise UserError(f'a video beside {pathlib.Path(path).name} has frames of {frame.shape[1]} x '
                            f'{frame.shape[0]}, and it has {width} x {height}; want the same aspect ratio, or '
                            '--crop=none')
        same = square if scale == 1 else Crop(round(square.left * scale), round(square.top * scale),
                                              round(square.side * scale))
        return same.apply(frame, CROP_SIZE)

    return cut
