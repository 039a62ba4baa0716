"""A small picture of a media file that preparation could not use, as far as there is one."""

import itertools
import os

import numpy as np
from PIL import Image

from input_pipeline import media

_FRAME = 12  # the frame shown of a film: half a second in, since many begin with black


def thumbnail(path: str | os.PathLike, size: int = 192) -> np.ndarray | None:
    """A frame of a film, or a picture, scaled down.

    Args:
      path: of anything.
      size: of the longer side at most, px.

    Returns:
      (H, W, 3) uint8 RGB; None where the file is missing, is sound or cannot be decoded.
    """
    try:
        return _scaled(media.read_image(path) if media.is_image(path) else _frame(path), size)
    # The files that come here are those with something wrong, of which no list of exceptions is complete.
    except Exception:
        return None


def _frame(path: str | os.PathLike) -> np.ndarray:
    """Frame `_FRAME` of a film, or its last where it is shorter."""
    *_, shown = itertools.islice(media.Video(path), _FRAME + 1)
    return shown


def _scaled(picture: np.ndarray, size: int) -> np.ndarray:
    image = Image.fromarray(picture)
    image.thumbnail((size, size), Image.Resampling.BOX)
    return np.asarray(image)
