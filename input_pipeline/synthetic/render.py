"""A small software renderer: orthographic z-buffer, Gouraud shading, one texture whose alpha cuts holes."""

import cv2
import numba
import numpy as np

SUPERSAMPLING = 2  # along each axis
# Columns of a vertex's attributes: colour (RGB, 0-255), diffuse factor, gloss (added, 0-255), texture column and
# row (texels; a negative column means: plain colour).
ATTRIBUTES = 7


def render(vertices: np.ndarray, triangles: np.ndarray, attributes: np.ndarray, texture: np.ndarray,
           background: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one frame.

    Args:
      vertices: (N, 3) crop px, z towards the viewer.
      triangles: (F, 3) int32.
      attributes: (N, 7) float32, see `ATTRIBUTES`.
      texture: (H, W, 4) float32, RGB in [0, 255] and alpha in [0, 1].
      background: (2 size, 2 size, 3) float32 in [0, 255].
      size: side of the image in pixels.

    Returns:
      image (size, size, 3) uint8 RGB, and depth (2 size, 2 size) float32: z in crop px, -inf where nothing is.
    """
    side = SUPERSAMPLING * size
    scale = side / 256
    points = np.ascontiguousarray(vertices, np.float32)
    points = np.stack([(points[:, 0] + 0.5) * scale - 0.5, (points[:, 1] + 0.5) * scale - 0.5, points[:, 2]], axis=1)
    image = background.copy()
    depth = np.full((side, side), -np.inf, np.float32)
    _draw(points, triangles, attributes, texture, image, depth)
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8), depth


@numba.njit(cache=True)
def _draw(points: np.ndarray, triangles: np.ndarray, attributes: np.ndarray, texture: np.ndarray,
          image: np.ndarray, depth: np.ndarray) -> None:
    """Rasterize every triangle into `image` and `depth`, nearest surface first."""
    height, width = depth.shape
    rows, columns = texture.shape[0], texture.shape[1]
    for f in range(len(triangles)):
        i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        x0, y0, x1, y1 = points[i, 0], points[i, 1], points[j, 0], points[j, 1]
        x2, y2 = points[k, 0], points[k, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        inverse = np.float32(1) / area
        left, right = max(0, int(np.ceil(min(x0, x1, x2)))), min(width - 1, int(np.floor(max(x0, x1, x2))))
        top, bottom = max(0, int(np.ceil(min(y0, y1, y2)))), min(height - 1, int(np.floor(max(y0, y1, y2))))
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                b1 = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) * inverse
                b2 = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) * inverse
                b0 = 1 - b1 - b2
                if b0 < -1e-6 or b1 < -1e-6 or b2 < -1e-6:
                    continue
                z = b0 * points[i, 2] + b1 * points[j, 2] + b2 * points[k, 2]
                if z <= depth[y, x]:
                    continue
                diffuse = b0 * attributes[i, 3] + b1 * attributes[j, 3] + b2 * attributes[k, 3]
                gloss = b0 * attributes[i, 4] + b1 * attributes[j, 4] + b2 * attributes[k, 4]
                if attributes[i, 5] < 0:
                    for c in range(3):
                        colour = b0 * attributes[i, c] + b1 * attributes[j, c] + b2 * attributes[k, c]
                        image[y, x, c] = colour * diffuse + gloss
                    depth[y, x] = z
                    continue
                u = b0 * attributes[i, 5] + b1 * attributes[j, 5] + b2 * attributes[k, 5]
                v = b0 * attributes[i, 6] + b1 * attributes[j, 6] + b2 * attributes[k, 6]
                column, row = min(max(int(u), 0), columns - 2), min(max(int(v), 0), rows - 2)
                p, q = u - column, v - row
                w00, w01, w10, w11 = (1 - p) * (1 - q), p * (1 - q), (1 - p) * q, p * q
                alpha = (w00 * texture[row, column, 3] + w01 * texture[row, column + 1, 3]
                         + w10 * texture[row + 1, column, 3] + w11 * texture[row + 1, column + 1, 3])
                if alpha < 0.5:
                    continue
                for c in range(3):
                    colour = (w00 * texture[row, column, c] + w01 * texture[row, column + 1, c]
                              + w10 * texture[row + 1, column, c] + w11 * texture[row + 1, column + 1, c])
                    image[y, x, c] = colour * diffuse + gloss
                depth[y, x] = z


def visible(vertices: np.ndarray, depth: np.ndarray, tolerance: float = 2.5) -> np.ndarray:
    """(V,) float32: 1 where a vertex (V, 3) in crop px is within `tolerance` px of the nearest surface, else 0."""
    side = len(depth)
    pixel = np.rint((vertices[:, :2] + 0.5) * side / 256 - 0.5).astype(int)
    inside = ((pixel >= 0) & (pixel < side)).all(axis=1)
    column, row = pixel.clip(0, side - 1).T
    return (inside & (vertices[:, 2] >= depth[row, column] - tolerance)).astype(np.float32)
