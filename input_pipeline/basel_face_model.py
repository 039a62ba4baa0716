"""The Basel Face Model with the expressions of 3DDFA, from the user's own files: parameters to vertices in a picture.

BFM.mat and BFM_UV.mat are what face3d's examples/Data/BFM/generate.py makes of the published files. The model is
y up and z towards the viewer, and a picture's parameters place it as 3DDFA's own MATLAB programs do (Zhu et al.,
Face Alignment Across Large Poses, CVPR 2016): scaled orthographic, in pixels that are counted from 1.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.io

from talkinghead_jax.errors import UserError

MODEL, UV = 'BFM.mat', 'BFM_UV.mat'
POSE = 7  # pitch, yaw, roll (rad), shift along x, y, z (px), scale


@dataclasses.dataclass(frozen=True)
class BaselFaceModel:
    """A linear model of face shapes; coordinates of the bases are x, y, z of vertex 0, of vertex 1, and so on.

    Attributes:
      mean: (3 V,) float32, neutral mean face, in the model's own unit (micrometres).
      shape: (3 V, n) float32, 199 directions in the published model.
      expression: (3 V, m) float32, 29 directions.
      triangles: (F, 3) int32 vertex numbers; the mouth is closed where the files say how.
      key_points: (68,) int32 vertex numbers, iBUG order.
      uv: (V, 2) float64, 0 .. 1, from left to right and from below to above.
    """

    mean: np.ndarray
    shape: np.ndarray
    expression: np.ndarray
    triangles: np.ndarray
    key_points: np.ndarray
    uv: np.ndarray

    def vertices(self, shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """(n,) and (m,) parameters of a picture, not divided by deviations -> (V, 3) float32, the model's unit."""
        moved = self.mean + self.shape @ shape.astype(np.float32) + self.expression @ expression.astype(np.float32)
        return moved.reshape(-1, 3)


def load(folder: str | os.PathLike) -> BaselFaceModel:
    """Read BFM.mat and BFM_UV.mat.

    Raises:
      UserError: a file is missing, is no MATLAB file, or holds something else.
    """
    folder = pathlib.Path(folder)
    model = _first(read_mat(folder / MODEL, f'want the Basel Face Model as face3d makes it, {MODEL} and {UV}, in '
                            'config.data.bfm'), 'model', folder / MODEL)
    uv = np.asarray(_field(read_mat(folder / UV, 'want it beside BFM.mat'), 'UV', folder / UV), np.float64)
    mean, shape, shift, expression = (np.asarray(_field(model, name, folder / MODEL), np.float32)
                                      for name in ('shapeMU', 'shapePC', 'expMU', 'expPC'))
    triangles = _triangles(_field(model, 'tri', folder / MODEL))
    if 'tri_mouth' in model:
        triangles = np.concatenate([triangles, _triangles(model['tri_mouth'])])
    key_points = np.asarray(_field(model, 'kpt_ind', folder / MODEL), np.int32).reshape(-1) - 1
    coordinates = mean.size
    whole = (shape.ndim == expression.ndim == 2
             and {shift.size, len(shape), len(expression), 3 * len(uv)} == {coordinates}
             and uv.shape[1:] == (2,) and triangles.shape[1:] == (3,) and key_points.shape == (68,)
             and min(triangles.min(), key_points.min()) >= 0
             and max(triangles.max(), key_points.max()) < coordinates // 3)
    if not whole:
        raise UserError(f'{folder}: {MODEL} and {UV} do not fit together: found shapeMU {mean.shape}, shapePC '
                        f'{shape.shape}, expMU {shift.shape}, expPC {expression.shape}, kpt_ind {key_points.shape}, '
                        f'UV {uv.shape}; want (3 V, 1), (3 V, n), (3 V, 1), (3 V, m), 68 and (V, 2) of one model')
    neutral = mean.reshape(-1) + shift.reshape(-1)
    return BaselFaceModel(neutral, shape, expression, triangles, key_points, uv)


def to_picture(vertices: np.ndarray, pose: np.ndarray, height: int) -> np.ndarray:
    """Place the model in a picture.

    Args:
      vertices: (V, 3), the model's unit, y up.
      pose: (7,) as `Pose_Para` has it: pitch, yaw, roll in rad, shift along x, y, z in px, scale in px a unit.
      height: of the picture, px.

    Returns:
      (V, 3) float64 px of the picture: x right, y down, z towards the viewer, pixel centres at integers from 0.
    """
    pose = np.asarray(pose, np.float64)
    placed = vertices @ (pose[6] * rotation(pose[:3])).T + pose[None, 3:6]
    return placed * [1, -1, 1] + [-1, height, 0]


def rotation(angles: np.ndarray) -> np.ndarray:
    """(3,) pitch, yaw, roll in rad -> (3, 3): R_x R_y R_z with 3DDFA's signs, which are those of inverse turns."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    pitch = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    yaw = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    roll = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    return pitch @ yaw @ roll


def read_mat(path: pathlib.Path, wanted: str) -> dict[str, Any]:
    """The variables of a MATLAB file.

    Raises:
      UserError: it is missing or cannot be read; the sentence ends in `wanted`.
    """
    try:
        return scipy.io.loadmat(str(path), appendmat=False)
    except FileNotFoundError as error:
        raise UserError(f'{path} does not exist; {wanted}') from error
    except Exception as error:  # SciPy raises nearly anything on a damaged file
        raise UserError(f'{path} is no MATLAB file that can be read ({error}); {wanted}') from error


def _first(variables: Mapping[str, Any], name: str, path: pathlib.Path) -> dict[str, np.ndarray]:
    """The fields of a 1 x 1 struct."""
    struct = _field(variables, name, path)
    if struct.dtype.names is None or struct.size != 1:
        raise UserError(f'{path}: {name} is {struct.shape} {struct.dtype}; want one struct with shapeMU, shapePC, ..')
    return {field: struct.reshape(-1)[0][field] for field in struct.dtype.names}


def _field(variables: Mapping[str, Any], name: str, path: pathlib.Path) -> np.ndarray:
    if name not in variables:
        raise UserError(f'{path} holds no {name}; it holds {", ".join(n for n in variables if n[:2] != "__")}')
    return variables[name]


def _triangles(stored: np.ndarray) -> np.ndarray:
    """(3, F) or (F, 3) numbers from 1 -> (F, 3) int32 from 0."""
    columns = stored.T if len(stored) == 3 else stored
    return np.ascontiguousarray(columns, np.int32) - 1
