"""Random changes of training examples: mirrored faces, colours, framing. (`audio` has those of sound.)

Everything random comes from the generator that is handed in.
"""

import cv2
import numpy as np

from talkinghead_jax.geometry import face


def mirror_points(points: np.ndarray) -> np.ndarray:
    """Mirror (..., N, 3) crop px about the crop's middle line; the points keep their numbers."""
    return np.concatenate([2 * np.float32(face.AXIS_X) - points[..., :1], points[..., 1:]], axis=-1)


def mirror_pose(pose: np.ndarray) -> np.ndarray:
    """The pose (..., 6) of a mirrored face: turns about y and z, and the shift along x, change their sign."""
    return pose * np.array([1, -1, -1, -1, 1, 1], pose.dtype)


def mirror_images(images: np.ndarray) -> np.ndarray:
    """Mirror (..., H, W, C) left to right."""
    return images[..., ::-1, :]


def colour_table(rng: np.random.Generator, strength: float) -> np.ndarray:
    """A random contrast, brightness and tint as a table for `recolour`: (256, 3) uint8.

    Args:
      rng: where the draw comes from.
      strength: standard deviation of each change, as a share of the range of values; 0 changes nothing.
    """
    contrast = np.exp(strength * rng.normal())
    tint = np.exp(0.5 * strength * rng.normal(size=3))
    brightness = 255 * strength * rng.normal()
    values = (np.arange(256)[:, None] - 127.5) * contrast * tint + 127.5 + brightness
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def recolour(images: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Apply `colour_table` to uint8 images (..., H, W, 3)."""
    flat = np.ascontiguousarray(images).reshape(-1, images.shape[-2], 3)
    return cv2.LUT(flat, table[None]).reshape(images.shape)


def shift_and_scale(image: np.ndarray, position_map: np.ndarray, rng: np.random.Generator,
                    shift: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Move the picture of a face and its position map alike.

    Args:
      image: (S, S, 3) uint8.
      position_map: (S', S', 3) float32, crop px.
      rng: where the draw comes from.
      shift: largest shift along x and y, crop px.
      scale: largest relative change of size.

    Returns:
      Both, changed; the picture's border is continued outwards.
    """
    centre = face.CENTROID.astype(np.float32)
    factor = 1 + rng.uniform(-scale, scale)
    move = np.append(rng.uniform(-shift, shift, 2), 0.0)
    moved = (position_map - centre) * np.float32(factor) + (centre + move).astype(np.float32)
    # The same in the picture's own pixels: crop px x is pixel (x + 0.5) * share - 0.5.
    share = image.shape[0] / 256
    middle = (centre[:2] + 0.5) * share - 0.5
    offset = (1 - factor) * middle + move[:2] * share
    matrix = np.array([[factor, 0, offset[0]], [0, factor, offset[1]]])
    size = (image.shape[1], image.shape[0])
    image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return image, moved
