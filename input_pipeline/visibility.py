"""Which vertices of a mesh a frame sees."""

import numpy as np


def vertex_visibility(vertices: np.ndarray, triangles: np.ndarray, tolerance: float = 2.0) -> np.ndarray:
    """1 where the viewer sees the vertex, else 0.

    A vertex is seen where its normal faces the viewer and no triangle that covers it lies nearer by more than
    `tolerance`. Every vertex is tested against every triangle: exact, and meant for hundreds of vertices.

    Args:
      vertices: (V, 3) px, z towards the viewer, orthographic.
      triangles: (F, 3) vertex numbers; a normal with positive z faces the viewer.
      tolerance: px.

    Returns:
      (V,) float32. A vertex of no triangle has no normal: only what lies before it counts.
    """
    vertices = np.asarray(vertices, np.float64)
    corners = vertices[triangles]  # (F, 3, 3)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner],
                  np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    facing = (normals[:, 2] > 0) | ~normals.any(axis=1)

    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = _cross(b - a, c - a)
    upright = np.abs(area) > 1e-9
    a, b, c, area = a[upright], b[upright], c[upright], area[upright]
    points = vertices[:, None]
    weights = np.stack([_cross(b - points, c - points), _cross(c - points, a - points),
                        _cross(a - points, b - points)], -1) / area[:, None]  # (V, F, 3)
    depth = (weights * np.stack([a, b, c], 1)[..., 2]).sum(-1)
    hidden = ((weights >= 0).all(-1) & (depth > vertices[:, None, 2] + tolerance)).any(1)
    return (facing & ~hidden).astype(np.float32)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """z of the cross product of the first two coordinates."""
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
