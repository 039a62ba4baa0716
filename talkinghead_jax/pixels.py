"""From what networks compute to what is shown."""

import numpy as np


def to_uint8(image: np.ndarray) -> np.ndarray:
    """[-1, 1] float -> uint8, same shape; what lies outside is clipped."""
    return np.round((np.clip(image, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
