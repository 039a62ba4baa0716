"""Meshes for the tests of both rasterizers."""

import numpy as np


def icosphere(divisions):
    """Unit sphere: (V, 3) vertices, (20 * 4 ** divisions, 3) triangles."""
    golden = (1 + 5 ** 0.5) / 2
    points = [(-1, golden, 0), (1, golden, 0), (-1, -golden, 0), (1, -golden, 0), (0, -1, golden), (0, 1, golden),
              (0, -1, -golden), (0, 1, -golden), (golden, 0, -1), (golden, 0, 1), (-golden, 0, -1), (-golden, 0, 1)]
    points = [np.array(p) / np.linalg.norm(p) for p in points]
    faces = [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2),
             (10, 7, 6), (7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5), (2, 4, 11),
             (6, 2, 10), (8, 6, 7), (9, 8, 1)]
    for _ in range(divisions):
        middles, finer = {}, []
        for face in faces:
            between = []
            for i, j in zip(face, face[1:] + face[:1], strict=True):
                key = min(i, j), max(i, j)
                if key not in middles:
                    middle = points[i] + points[j]
                    middles[key] = len(points)
                    points.append(middle / np.linalg.norm(middle))
                between.append(middles[key])
            a, b, c = between
            finer += [(face[0], a, c), (a, face[1], b), (c, b, face[2]), (a, b, c)]
        faces = finer
    return np.array(points), np.array(faces, np.int32)


def scene(divisions=1, batch=2, channels=4, dtype=np.float64, size=20):
    """A bumpy sphere in the middle of the image."""
    rng = np.random.default_rng(divisions)
    points, triangles = icosphere(divisions)
    points = points * rng.uniform(0.8, 1.1, (batch, len(points), 1)) * 0.42 * size
    vertices = points + np.array([size / 2 + 0.123, size / 2 - 0.271, 3])
    return vertices.astype(dtype), triangles, rng.normal(size=(batch, len(points[0]), channels)).astype(dtype)
