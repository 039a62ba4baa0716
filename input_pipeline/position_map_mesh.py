"""PRNet's index files: which pixels of a UV position map are mesh points and landmarks, and the triangles between."""

import dataclasses
import os
import pathlib

import numpy as np

from talkinghead_jax.errors import UserError
from talkinghead_jax.specs import LANDMARKS

SIDE = 256  # px: of the position map
VERTICES, KEYPOINTS, TRIANGLES = FILES = ('face_ind.txt', 'uv_kpt_ind.txt', 'triangles.txt')


@dataclasses.dataclass(frozen=True)
class PositionMapMesh:
    """Where the mesh lies in a position map.

    Pixels are numbered row by row, row * 256 + column.
    """

    vertices: np.ndarray  # (V,) int32: pixel of each mesh point
    landmarks: np.ndarray  # (68,) int32: pixel of each landmark, iBUG order
    triangles: np.ndarray  # (F, 3) int32 numbers of mesh points, wound as `specs.METADATA` has it


def load(folder: str | os.PathLike) -> PositionMapMesh:
    """Read the files as PRNet publishes them in Data/uv-data: face_ind.txt, uv_kpt_ind.txt, perhaps triangles.txt.

    Raises:
      UserError: a file is missing or does not hold what it should.
    """
    folder = pathlib.Path(folder)
    vertices = _read(folder / VERTICES).ravel()
    if not vertices.size or vertices.min() < 0 or vertices.max() >= SIDE ** 2 or len(set(vertices)) < len(vertices):
        raise UserError(f'{folder / VERTICES} holds {vertices.size} numbers; want different ones from 0 to '
                        f'{SIDE ** 2 - 1}')
    keypoints = _read(folder / KEYPOINTS)
    if keypoints.shape != (2, LANDMARKS) or keypoints.min() < 0 or keypoints.max() >= SIDE:
        raise UserError(f'{folder / KEYPOINTS} holds {keypoints.shape} numbers; want columns and rows of {LANDMARKS} '
                        f'landmarks, (2, {LANDMARKS}), 0 to {SIDE - 1}')
    triangles = neighbours(vertices)
    if (folder / TRIANGLES).is_file():
        triangles = _read(folder / TRIANGLES)
        if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.min() < 0 or triangles.max() >= len(vertices):
            raise UserError(f'{folder / TRIANGLES} holds {triangles.shape} numbers; want (F, 3), 0 to '
                            f'{len(vertices) - 1}')
    return PositionMapMesh(vertices, keypoints[1] * SIDE + keypoints[0], facing(triangles, vertices))


def neighbours(vertices: np.ndarray, side: int = SIDE) -> np.ndarray:
    """(F, 3) int32 triangles between the pixels (V,) of a mesh: both halves of each square of four, where whole.

    They are wound as `specs.METADATA` has it where the map shows a face from outside, x to the right.
    """
    number = np.full(side ** 2, -1, np.int32)
    number[vertices] = np.arange(len(vertices))
    number = number.reshape(side, side)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    halves = np.stack([np.stack([a, b, c], axis=-1), np.stack([b, d, c], axis=-1)], axis=2).reshape(-1, 3)
    return halves[(halves >= 0).all(axis=-1)]


def facing(triangles: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Turn those triangles over that are wound the other way round in the map.

    The map is the face unrolled and not mirrored, columns to the right and rows down like the picture: what turns
    from x to y in the map does so on a face that is seen from the front, and its normal has positive z.
    """
    corners = np.stack([vertices % SIDE, vertices // SIDE], axis=-1)[triangles]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    turned = first[:, 0] * second[:, 1] < first[:, 1] * second[:, 0]
    return np.where(turned[:, None], triangles[:, ::-1], triangles)


def _read(path: pathlib.Path) -> np.ndarray:
    try:
        return np.loadtxt(path).astype(np.int32)
    except OSError as error:
        raise UserError(f'{path} is missing; want the file of that name from Data/uv-data of PRNet '
                        '(third_party/prnet/README.md)') from error
    except ValueError as error:
        raise UserError(f'{path} is damaged ({error}); want numbers') from error
