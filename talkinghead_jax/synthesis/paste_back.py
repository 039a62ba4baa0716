"""Put generated crops back into the whole picture (--preprocess=full)."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np


class Crop(Protocol):
    """Where the crop lies in the frame (`input_pipeline.crop.Crop`)."""

    def paste(self, frame: np.ndarray, image: np.ndarray) -> np.ndarray:
        """`frame` (H, W, 3) with the crop's `image` (S, S, 3) in its place, softly joined; `frame` is kept."""
        ...


def paste_back(crop: Crop, background: np.ndarray, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames of the whole picture.

    The background stands still: it is the source's key frame. A moving one would carry another head pose's
    shoulders past the crop's border.

    Args:
      crop: of the source.
      background: (H, W, 3) uint8, the whole key frame.
      images: generated crops (S, S, 3) uint8.

    Yields:
      (H, W, 3) uint8, one for each of `images`.
    """
    for image in images:
        yield crop.paste(background, image)
