"""The face surface: a 64 x 64 UV grid that a thin-plate spline hangs on named control points.

A face is its control points, and nothing else: the 68 landmarks, and further points that shape forehead, cheeks,
nose and chin. Every control point has a fixed UV position, so vertices are a fixed linear function of controls
(`BASIS`), landmarks lie on the surface by construction, and identities and expressions are displacements of a
hundred-odd points. UV is the face unrolled about the vertical axis. The lips are parted in UV, so that the mouth
(and the eyes) can open as holes that the texture cuts into the surface.
"""

import cv2
import numba
import numpy as np
from threadpoolctl import threadpool_limits

from talkinghead_jax.geometry.face import AXIS_X, MIRROR, TEMPLATE

UV_SIZE = 64
UPPER_LIP, LOWER_LIP = (68, 69), (70, 71)  # control points beside the landmarks' inner lips: right, left
MIDDLE = np.array([AXIS_X, 0.0, 0.0])  # crop px: of the face, left to right
_HEAD_AXIS_Z = -60.0  # crop px: the vertical axis that UV unrolls about
_MAX_ANGLE = np.deg2rad(100.0)
# Which grid row each height (crop px) falls on. The edges of lids and lips have a row of their own, so that closed
# ones stay closed between the rows.
_HEIGHTS = (24, 82, 100, 107, 146, 155, 160, 172, 226)
_ROWS = (0, 12, 22, 26, 41, 45, 48, 53, 63)

# (x - AXIS_X, y, z) of control points beside the landmarks, right half and middle; mirrored below.
_LIPS = [(-12.5, 157.1, 21.2), (-12.5, 157.4, 20.9)]  # inner lips between corner and middle, or they would gape there
_FOREHEAD = [(0, 76), (0, 60), (0, 44), (0, 30), (-18, 74), (-20, 56), (-20, 40), (-18, 29), (-36, 72), (-38, 54),
             (-36, 40), (-52, 76), (-52, 58)]  # heights on the skull
_SHAPE = [
    (0, 94, 26), (-8, 96, 22), (-7, 106, 21), (-26, 94.5, 16), (-37, 96, 10), (-26, 112.5, 11.5), (-38, 110, 6),
    (-44, 104, -1), (-53, 96, -20), (-13, 112, 15), (-24, 122, 14), (-38, 120, 6), (-49, 122, -14),
    (-5, 113, 28), (-7, 123, 30), (-5, 131, 39), (-2.6, 131, 42.4), (0, 127.5, 41.8), (0, 134.5, 41.3),
    (-2.6, 112.5, 31.8), (-2.6, 122.3, 37.5), (-11, 132, 28), (-15, 136, 18), (-18, 128, 17),
    (-24, 139, 15), (-36, 136, 4), (-47, 138, -16), (0, 146.5, 27), (-10, 147, 24), (-19, 149, 18),
    (-28, 157, 10), (-39, 154, -6), (-46, 152, -24), (0, 172, 22), (-11, 171, 19), (-22, 169, 11),
    (-33, 166, -3), (0, 182, 19), (-12, 181, 15), (-60, 74, -58), (-61, 94, -64), (-61, 112, -66), (-60, 130, -64),
]
SKULL_CENTRE = np.array([AXIS_X, 88.0, -44.0])  # crop px
SKULL_RADII = np.array([62.0, 70.0, 70.0])  # crop px


def _forehead(x: float, y: float) -> tuple[float, float, float]:
    """A point of the skull's front at (x, y)."""
    inside = 1 - (x / SKULL_RADII[0]) ** 2 - ((y - SKULL_CENTRE[1]) / SKULL_RADII[1]) ** 2
    return x, y, SKULL_CENTRE[2] + SKULL_RADII[2] * np.sqrt(inside)


def _mirrored(half: list[tuple[float, float, float]]) -> np.ndarray:
    """Half of the points to all of them, (N, 3) crop px."""
    both = [(sign * x, y, z) for x, y, z in half for sign in ((1, -1) if x else (1,))]
    return np.array(both) + MIDDLE


def _unroll(points: np.ndarray) -> np.ndarray:
    """(N, 3) crop px -> (N, 2): angle about the head's axis, and height in px, before scaling to UV."""
    angle = np.arctan2(points[:, 0] - AXIS_X, points[:, 2] - _HEAD_AXIS_Z)
    return np.stack([angle, points[:, 1]], axis=1)


def _to_uv(angle: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Angles and heights to [0, 1]^2, with most of the grid given to eyes and mouth."""
    across = 0.55 * np.sin(angle) / np.sin(_MAX_ANGLE) + 0.45 * angle / _MAX_ANGLE
    down = np.interp(height, _HEIGHTS, np.array(_ROWS) / (UV_SIZE - 1))
    return np.stack([(across + 1) / 2, down], axis=-1)


def _controls() -> tuple[np.ndarray, np.ndarray]:
    """Mean control points (N, 3) crop px, landmarks first, and their UV positions (N, 2)."""
    shape = _mirrored(_LIPS + [_forehead(*point) for point in _FOREHEAD] + _SHAPE)
    jaw, along = TEMPLATE[2:15], np.linspace(-1, 1, 13)
    throat = [(jaw - MIDDLE) * [shrink, 1, 1] + MIDDLE + np.array([0, down, back])
              for shrink, down, back in ((0.96, 7, -18), (0.90, 5, -38))]  # where the jaw turns under
    below = [_unroll(jaw) + share * np.stack([0.12 * along, 13 - 5 * along ** 2], axis=1) for share in (1, 1.9)]
    unrolled = np.concatenate([_unroll(TEMPLATE), _unroll(shape), *below])
    for height, points in ((100, [37, 38, 43, 44]), (107, [40, 41, 46, 47]), (155, [61, 62, 63, *UPPER_LIP]),
                           (160, [65, 66, 67, *LOWER_LIP]), (157.5, [60, 64])):
        unrolled[points, 1] = height
    return np.concatenate([TEMPLATE, shape, *throat]), _to_uv(*unrolled.T)


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Thin-plate kernel r^2 log r between (A, 2) and (B, 2) points."""
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    return 0.5 * squared * np.log(np.maximum(squared, 1e-20))


def spline(targets: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Matrix (M, N) of the thin-plate spline that carries values at (N, 2) centres to (M, 2) targets."""
    ones, zeros = np.ones((len(centres), 1)), np.zeros((3, 3))
    affine = np.concatenate([ones, centres], axis=1)
    system = np.block([[_kernel(centres, centres), affine], [affine.T, zeros]])
    rows = np.concatenate([_kernel(targets, centres), np.ones((len(targets), 1)), targets], axis=1)
    with threadpool_limits(1):  # more threads round differently, and records have the same bits everywhere
        return np.linalg.solve(system.T, rows.T).T[:, :len(centres)]


def _grid() -> np.ndarray:
    """UV positions (64 * 64, 2) of the grid, row by row."""
    steps = np.linspace(0, 1, UV_SIZE)
    return np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)


def _mask() -> np.ndarray:
    """(64, 64) bool: grid positions within the hull of the control points."""
    inside = [cv2.pointPolygonTest(HULL, (float(u), float(v)), False) >= 0 for u, v in GRID_UV]
    return np.array(inside).reshape(UV_SIZE, UV_SIZE)


def _triangles() -> np.ndarray:
    """(F, 3) int32: two triangles for each grid cell whose four corners are valid."""
    number = np.full((UV_SIZE, UV_SIZE), -1, np.int32)
    number[UV_MASK] = np.arange(UV_MASK.sum())
    a, b, c, d = (m.ravel() for m in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    valid = np.minimum(np.minimum(a, b), np.minimum(c, d)) >= 0
    return np.stack([np.stack([a, c, b], 1), np.stack([b, c, d], 1)], axis=1)[valid].reshape(-1, 3)


def _control_mirror() -> np.ndarray:
    """(N,): the control point on the other side of the face."""
    flipped = CONTROLS * [-1, 1, 1] + 2 * MIDDLE
    nearest = ((flipped[:, None] - CONTROLS[None]) ** 2).sum(-1).argmin(1)
    nearest[:68] = MIRROR
    return nearest


CONTROLS, CONTROL_UV = _controls()  # (N, 3) crop px and (N, 2) in [0, 1]: the mean face; landmarks are 0..67
CONTROL_MIRROR = _control_mirror()
HULL = cv2.convexHull(CONTROL_UV.astype(np.float32))  # (H, 1, 2) UV: the outline of the surface
GRID_UV = _grid()
UV_MASK = _mask()  # (64, 64) bool
VALID = np.flatnonzero(UV_MASK)  # (V,): grid positions that are vertices
VERTEX_UV = GRID_UV[VALID]  # (V, 2)
TRIANGLES = _triangles()  # (F, 3) int32 into the V vertices
BASIS = spline(VERTEX_UV, CONTROL_UV).astype(np.float32)  # (V, N): vertices = BASIS @ controls


def _nearest_valid() -> np.ndarray:
    """(64, 64) int: the vertex at each grid position, the nearest one outside the mask."""
    distance = ((GRID_UV[:, None] - VERTEX_UV[None]) ** 2).sum(-1)
    return distance.argmin(1).reshape(UV_SIZE, UV_SIZE)


NEAREST_VERTEX = _nearest_valid()


def surface_vertices(controls: np.ndarray) -> np.ndarray:
    """Control points (..., N, 3) to vertices (..., V, 3) float32, crop px: one matrix product for all of them."""
    columns = np.moveaxis(controls, -2, 0).astype(np.float32)
    product = BASIS @ columns.reshape(len(columns), -1)
    return np.ascontiguousarray(np.moveaxis(product.reshape(-1, *columns.shape[1:]), 0, -2))


def position_map(vertices: np.ndarray) -> np.ndarray:
    """(V, 3) vertices -> (64, 64, 3) map, filled from the nearest vertex outside `UV_MASK`; crop px."""
    return vertices[NEAREST_VERTEX]


@numba.njit(cache=True)
def normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3) of the vertices of a mesh, (V, 3) and (F, 3); those of `TRIANGLES` point outwards."""
    total = np.zeros(vertices.shape)
    for f in range(len(triangles)):
        i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ax, ay, az = vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2]
        bx, by, bz = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2]
        x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            total[v, 0] += x
            total[v, 1] += y
            total[v, 2] += z
    for v in range(len(total)):
        length = max(np.sqrt(total[v, 0] ** 2 + total[v, 1] ** 2 + total[v, 2] ** 2), 1e-9)
        total[v] /= length
    return total
