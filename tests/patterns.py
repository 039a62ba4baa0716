"""Pictures that any program makes again from a formula: golden files need not hold them."""

import numpy as np


def noise(*shape: int) -> np.ndarray:
    """Integers of 0 to 255, of a fixed congruential sequence."""
    numbers = (np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * 2654435761) % 2**32
    return ((numbers ^ (numbers >> 15)) * 2246822519 % 2**32 >> 24).astype(np.uint8).reshape(shape)


def pairs(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Two pairs of pictures, waves and noise: (2,side,side,3) uint8 twice."""
    y, x, channel = np.indices((side, side, 3))
    waves = [((x * a + y * b + channel * 40) // 2) % 192 for a, b in ((3, 1), (1, 5), (2, 2), (5, 1))]
    pictures = (np.stack(waves) + noise(4, side, side, 3) // 4).astype(np.uint8)
    return pictures[:2], pictures[2:]


def film(count: int) -> np.ndarray:
    """(count,224,224,3) uint8: noise in a square that wanders over waves."""
    t, y, x, channel = np.indices((count, 224, 224, 3))
    waves = (x * (1 + channel) + y * (1 + t % 3) + 60 * t) // 2 % 160
    square = (abs(x - 30 * t) < 50) & (abs(y - 112 + 10 * t) < 40)
    return (waves + np.where(square, noise(count, 224, 224, 3) // 3, 0)).astype(np.uint8)
