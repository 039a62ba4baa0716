"""UV space: which point of a mesh each position of a UV map shows, and what it weighs in the loss.

All pictures of one mesh share this, so that each position map is a gather (PRNet, Feng et al., ECCV 2018, Sec. 3.1).
UV coordinates here are pixels of the map: (column, row), pixel centres at integers.
"""

import dataclasses

import cv2
import numpy as np

from talkinghead_jax.geometry import face
from talkinghead_jax.ops.hard_rasterizer import rasterize

# PRNet, Sec. 3.2: weights of the loss at key points, in the region of eyes, nose and mouth, and in the rest of the
# face; the neck's is 0.
KEY_POINT, ORGANS, REST = 16.0, 4.0, 3.0
_REGIONS = ((*face.BROWS, *face.RIGHT_EYE, *face.LEFT_EYE), face.NOSE, face.MOUTH)
# Of the map's side: how much wider than their key points regions and face are; so they agree best with PRNet's masks
# (intersection over union 0.77 and 0.97).
_REGION_MARGIN, _FACE_MARGIN = 12 / 256, 8 / 256


@dataclasses.dataclass(frozen=True)
class UvSampling:
    """Where each position of a UV map lies on a mesh.

    Attributes:
      corners: (S, S, 3) int32, the vertices of the triangle there; 0 where there is none.
      weights: (S, S, 3) float64 barycentric, of sum 1; 0 where there is none.
    """

    corners: np.ndarray
    weights: np.ndarray

    @property
    def covered(self) -> np.ndarray:
        """(S, S) bool: there is a triangle."""
        return self.weights.any(axis=-1)

    def map(self, vertices: np.ndarray) -> np.ndarray:
        """(V, C) values at the vertices -> (S, S, C) at each position, 0 where there is no triangle."""
        return np.einsum('hwk,hwkc->hwc', self.weights, vertices[self.corners])


def sample(uv: np.ndarray, triangles: np.ndarray, size: int) -> UvSampling:
    """Rasterise a mesh into UV space.

    Args:
      uv: (V, 2) px of the map.
      triangles: (F, 3) int32; where they overlap, the last one is seen.
      size: S, side of the map.
    """
    flat = np.concatenate([uv, np.zeros((len(uv), 1))], axis=1).astype(np.float32)
    seen = np.asarray(rasterize(flat[None], triangles, flat[None, :, :1], size).triangle[0])
    corners = np.where(seen[..., None] >= 0, triangles[seen], 0)
    rows, columns = np.mgrid[:size, :size]
    here = np.stack([columns, rows], axis=-1)
    a, b, c = (flat[corners[..., i], :2].astype(np.float64) for i in range(3))
    area = _cross(b - a, c - a)
    area = np.where(area == 0, 1.0, area)
    weights = np.stack([_cross(b - here, c - here), _cross(c - here, a - here), _cross(a - here, b - here)], axis=-1)
    weights = np.clip(weights / area[..., None], 0, 1)  # a pixel on an edge may lie outside by rounding
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-12)
    return UvSampling(corners.astype(np.int32), weights * (seen >= 0)[..., None])


def above_neck(key_points: np.ndarray, size: int) -> np.ndarray:
    """(S, S) bool: not further below the jaw than PRNet's own mask reaches; `key_points` (68, 2) px of the map."""
    jaw = np.rint(key_points[list(face.JAW)])
    sides = [[2 * size, jaw[-1, 1]], [2 * size, -size], [-size, -size], [-size, jaw[0, 1]]]
    outline = np.concatenate([jaw, sides]).astype(np.int32)
    return cv2.dilate(cv2.fillPoly(np.zeros((size, size), np.uint8), [outline], 1), _brush(_FACE_MARGIN * size)) > 0


def loss_weights(mask: np.ndarray, key_points: np.ndarray) -> np.ndarray:
    """PRNet's weights of the loss, from the key points alone.

    Args:
      mask: (S, S), non-zero where the map is valid.
      key_points: (68, 2) px of the map.

    Returns:
      (S, S) float32: mean 1 where valid, 0 elsewhere.
    """
    size = len(mask)
    pixels = np.rint(key_points).astype(np.int32)
    weights = np.full(mask.shape, REST)
    for region in _REGIONS:
        hull = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), cv2.convexHull(pixels[list(region)]), 1)
        weights[cv2.dilate(hull, _brush(_REGION_MARGIN * size)) > 0] = ORGANS
    inside = ((pixels >= 0) & (pixels < size)).all(axis=1)
    weights[pixels[inside, 1], pixels[inside, 0]] = KEY_POINT
    return normalised(weights, mask)


def normalised(weights: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(S, S) weights -> float32 of mean 1 where `mask` is not 0, and 0 elsewhere."""
    valid = weights * (mask > 0)
    return (valid * (np.count_nonzero(mask) / valid.sum())).astype(np.float32)


def _brush(radius: float) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(radius) + 1,) * 2)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
