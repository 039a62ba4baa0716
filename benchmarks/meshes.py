"""Dense face meshes to time the rasterizer on: a synthetic one of PRNet's size, and PRNet's own where at hand."""

import os
import pathlib
from typing import NamedTuple

import numpy as np

GRID = 256  # side of the UV map
VERTICES = 43_867  # valid points of PRNet's UV map
CENTRE = 127.5  # px: of the 256 px crop
YAW, PITCH, ROLL = 60.0, 10.0, 8.0  # degrees: largest of the poses
SINGLE_YAW = 25.0  # degrees: of a batch of one
FITTING = 0.85  # scale at which PRNet's mean face stays in the crop in every pose
FOLDER = pathlib.Path('topology') / 'prnet_uv-data'


class Mesh(NamedTuple):
    """A mesh in its frontal pose about the origin: x right, y down, z towards the viewer, in px of a 256 px crop."""

    name: str
    vertices: np.ndarray  # (V, 3) float32
    triangles: np.ndarray  # (F, 3) int32
    colours: np.ndarray  # (V, 3) float32 in [0, 1]


def synthetic_face(points: int = VERTICES, grid: int = GRID) -> Mesh:
    """Half an ellipsoid with nose, eye sockets and lips over the `points` innermost points of a UV grid."""
    v, u = np.meshgrid(np.linspace(-1, 1, grid), np.linspace(-1, 1, grid), indexing='ij')
    radius = np.abs(u) ** 3 + np.abs(v) ** 3
    valid = np.zeros(grid * grid, bool)
    valid[np.argsort(radius, axis=None, kind='stable')[:points]] = True
    u, v = u.ravel()[valid], v.ravel()[valid]
    longitude, latitude = np.radians(88) * u, np.radians(78) * v
    x = 88 * np.sin(longitude) * np.cos(0.75 * latitude)
    y = 110 * np.sin(latitude)
    z = 79 * np.cos(longitude) * np.cos(0.75 * latitude)
    z += 24 * _bump(x, y, 0, 8, 9, 20)  # nose
    z += 5 * _bump(x, y, 0, 48, 18, 6)  # lips
    for side in (-1, 1):
        z -= 8 * _bump(x, y, 32 * side, -22, 13, 8)  # eye sockets
    z -= z.mean()
    return Mesh('synthetic', np.stack([x, y, z], -1).astype(np.float32), _grid_triangles(valid.reshape(grid, grid)),
                _paint(u, v))


def prnet_face(folder: str | os.PathLike | None = None) -> Mesh | None:
    """PRNet's mean face from `folder`, a copy of its uv-data with triangles; None where the files are absent.

    The folder is looked for in $TALKINGHEAD_DATA/data, else in ../shared/data, as the tests do.
    """
    folder = _shared_data() / FOLDER if folder is None else pathlib.Path(folder)
    points, triangles = folder / 'canonical_vertices.npy', folder / 'prnet_triangles_derived.npy'
    if not (points.exists() and triangles.exists()):
        return None
    vertices = np.load(points)
    vertices = FITTING * (vertices - (vertices.min(0) + vertices.max(0)) / 2)
    return Mesh('PRNet', vertices.astype(np.float32), np.load(triangles).astype(np.int32),
                _paint(vertices[:, 0] / 100, vertices[:, 1] / 100))


def posed(mesh: Mesh, batch: int) -> np.ndarray:
    """(batch, V, 3) float32 px: the mesh in the crop's middle under yaws over +-60 degrees, nodding and tilting."""
    yaws = np.linspace(-YAW, YAW, batch) if batch > 1 else np.array([SINGLE_YAW])
    turns = np.stack([_rotation(*np.radians([yaw, PITCH * np.sin(3 * i), ROLL * np.cos(5 * i)]))
                      for i, yaw in enumerate(yaws)])
    return (mesh.vertices @ turns.transpose(0, 2, 1) + np.array([CENTRE, CENTRE, 0])).astype(np.float32)


def _shared_data() -> pathlib.Path:
    beside = pathlib.Path(__file__).resolve().parents[2] / 'shared'
    return pathlib.Path(os.environ.get('TALKINGHEAD_DATA', beside)) / 'data'


def _bump(x: np.ndarray, y: np.ndarray, x0: float, y0: float, width: float, height: float) -> np.ndarray:
    return np.exp(-((x - x0) / width) ** 2 - ((y - y0) / height) ** 2)


def _paint(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A colour for each point that differs from its neighbours', so that a wrong blend shows."""
    noise = np.random.default_rng(0).uniform(-0.2, 0.2, (len(u), 3))
    smooth = 0.5 + 0.3 * np.stack([np.sin(9 * u), np.cos(7 * v), np.sin(5 * (u + v))], -1)
    return (smooth + noise).clip(0, 1).astype(np.float32)


def _grid_triangles(valid: np.ndarray) -> np.ndarray:
    """Two triangles a cell of four valid points, one a cell of three: (F, 3) int32 numbers of the valid points."""
    number = np.full(valid.shape, -1)
    number[valid] = np.arange(valid.sum())
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    full = (a >= 0) & (b >= 0) & (c >= 0) & (d >= 0)
    # A cell that lacks a corner has at most one of these; a full one has all four, of which two cover it.
    found = []
    for corners, covers in (((a, c, b), True), ((b, c, d), True), ((a, c, d), False), ((a, d, b), False)):
        cells = np.stack(corners, -1)
        whole = (cells >= 0).all(-1)
        found.append(cells[whole if covers else whole & ~full])
    return np.concatenate(found).astype(np.int32)


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation matrix: roll about z after pitch about x after yaw about y; radians."""
    cy, sy, cp, sp, cr, sr = (f(angle) for angle in (yaw, pitch, roll) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y
