"""From what networks compute to what is shown."""

import numpy as np
from PIL import Image


def to_uint8(image: np.ndarray) -> np.ndarray:
    """[-1, 1] float -> uint8, same shape; what lies outside is clipped."""
    return np.round((np.clip(image, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)


def upscale(frames: np.ndarray, size: int) -> np.ndarray:
    """(N, H, W, 3) uint8 frames to size x size, as landmark detectors want them; untouched if they have that size."""
    if frames.shape[1:3] == (size, size) or not len(frames):
        return frames
    return np.stack([np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC))
                     for frame in frames])
