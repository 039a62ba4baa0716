"""A hard z-buffer in numba: no softness, no gradient. The bound that a soft rasterizer cannot reach, not its peer."""

import numba
import numpy as np


def rasterize(vertices: np.ndarray, triangles: np.ndarray, attributes: np.ndarray, size: int, *,
              parallel: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the triangle nearest to the viewer at every pixel centre; two-sided, orthographic, weights linear.

    Args:
      vertices: (B, V, 3) float32 px: x right, y down, z towards the viewer.
      triangles: (F, 3) int32.
      attributes: (B, V, C) float32.
      size: side of the image in px.
      parallel: one thread an image; else one thread.

    Returns:
      image (B, size, size, C), 0 where nothing is drawn; depth (B, size, size) px, -inf there; triangle
      (B, size, size) int32, -1 there.
    """
    batch = len(vertices)
    image = np.zeros((batch, size, size, attributes.shape[-1]), np.float32)
    depth = np.full((batch, size, size), -np.inf, np.float32)
    triangle = np.full((batch, size, size), -1, np.int32)
    (_draw_parallel if parallel else _draw)(vertices, triangles, attributes, image, depth, triangle)
    return image, depth, triangle


@numba.njit
def _draw_one(vertices, triangles, attributes, image, depth, triangle):
    size = len(depth)
    for f in range(len(triangles)):
        a, b, c = triangles[f]
        ax, ay, az = vertices[a]
        bx, by, bz = vertices[b]
        cx, cy, cz = vertices[c]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0 or not np.isfinite(area):
            continue
        for y in range(max(0, int(np.ceil(min(ay, by, cy)))), min(size - 1, int(np.floor(max(ay, by, cy)))) + 1):
            for x in range(max(0, int(np.ceil(min(ax, bx, cx)))), min(size - 1, int(np.floor(max(ax, bx, cx)))) + 1):
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                w = ((ax - x) * (by - y) - (ay - y) * (bx - x)) / area  # not 1 - u - v: shared edges have no cracks
                z = u * az + v * bz + w * cz
                if u >= 0 and v >= 0 and w >= 0 and z > depth[y, x]:
                    depth[y, x] = z
                    triangle[y, x] = f
                    for k in range(image.shape[-1]):
                        image[y, x, k] = u * attributes[a, k] + v * attributes[b, k] + w * attributes[c, k]


@numba.njit
def _draw(vertices, triangles, attributes, image, depth, triangle):
    for i in range(len(vertices)):
        _draw_one(vertices[i], triangles, attributes[i], image[i], depth[i], triangle[i])


@numba.njit(parallel=True)
def _draw_parallel(vertices, triangles, attributes, image, depth, triangle):
    for i in numba.prange(len(vertices)):
        _draw_one(vertices[i], triangles, attributes[i], image[i], depth[i], triangle[i])
