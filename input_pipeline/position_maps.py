"""A picture of 300W-LP and its fitted parameters to a crop and its UV position map (PRNet, Sec. 3.1)."""

import dataclasses
import functools
import os
import pathlib
from typing import Any

import cv2
import numpy as np

from input_pipeline import basel_face_model, fingerprints, media, records, uv_space
from input_pipeline.basel_face_model import BaselFaceModel
from input_pipeline.crop import static_crop
from talkinghead_jax.errors import Unusable, UserError
from talkinghead_jax.geometry import face

VERSION = 1  # raise it when the same files would give another record
MASK, WEIGHTS = 'uv_face_mask.png', 'uv_weight_mask.png'  # PRNet's own, used where they have the map's size
_LARGEST = 4  # sides of the picture: a face that wide is none


@dataclasses.dataclass(frozen=True)
class FaceSpace:
    """A face model and the UV space that its position maps share.

    Attributes:
      model: the Basel Face Model.
      sampling: where each position of a map lies on it.
      mask: (S, S) float32, 1 where the face is, without neck.
      weight: (S, S) float32, `uv_weight` of `specs.METADATA`.
    """

    model: BaselFaceModel
    sampling: uv_space.UvSampling
    mask: np.ndarray
    weight: np.ndarray


@functools.lru_cache(maxsize=1)
def open_space(folder: str, size: int) -> FaceSpace:
    """Read the face model in `folder` and lay it out on maps of `size` x `size`; kept for the next call.

    Raises:
      UserError: as `basel_face_model.load`, or UV coordinates that cover nothing.
    """
    model = basel_face_model.load(folder)
    uv = to_pixels(model.uv, size)
    sampling = uv_space.sample(uv, model.triangles, size)
    key_points = uv[model.key_points]
    published = _picture(pathlib.Path(folder) / MASK, size)
    shown = uv_space.above_neck(key_points, size) if published is None else published > 0
    mask = sampling.covered & shown
    if not mask.any():
        raise UserError(f'{folder}: the face covers nothing of the UV map; want UV coordinates from 0 to 1 in '
                        f'{basel_face_model.UV}')
    published = _picture(pathlib.Path(folder) / WEIGHTS, size)
    weight = (uv_space.loss_weights(mask, key_points) if published is None
              else uv_space.normalised(published.astype(np.float64), mask))
    return FaceSpace(model, sampling, mask.astype(np.float32), weight)


def to_pixels(uv: np.ndarray, size: int) -> np.ndarray:
    """(..., 2) from 0 to 1, upwards, to px of the map: (column, row), as PRNet's published maps have them."""
    return np.stack([uv[..., 0], 1 - uv[..., 1]], axis=-1) * (size - 1)


def fingerprint(folder: str | os.PathLike) -> list[str]:
    """What the cache knows a face model by."""
    files = (basel_face_model.MODEL, basel_face_model.UV, MASK, WEIGHTS)
    return [fingerprints.recognise(pathlib.Path(folder) / name) for name in files]


def make_record(picture: str | os.PathLike, parameters: str | os.PathLike, space: FaceSpace) -> dict[str, Any]:
    """One example of the unprojection set.

    Args:
      picture: file of the image.
      parameters: the .mat beside it, with Shape_Para, Exp_Para and Pose_Para.
      space: what `open_space` gives.

    Returns:
      `specs.POSITION_MAP`: the crop as JPEG, S x S like the map; the map is 0 outside `space.mask`.

    Raises:
      Unusable: a file is missing or damaged, the parameters are not the model's, or place no face in the picture.
    """
    shape, expression, pose = _parameters(pathlib.Path(parameters), space.model)
    try:
        image = media.read_image(picture)
    except UserError as error:
        raise Unusable('unreadable', str(error)) from error
    height, width = image.shape[:2]
    vertices = basel_face_model.to_picture(space.model.vertices(shape, expression), pose, height)
    landmarks = vertices[space.model.key_points]
    extent = np.ptp(landmarks[:, :2], axis=0).max()
    inside = ((landmarks[:, :2] >= 0) & (landmarks[:, :2] <= [width - 1, height - 1])).all(axis=1)
    if not inside.any() or not 2 < extent < _LARGEST * max(height, width):
        raise Unusable('unreadable', f'{parameters} places a face of {extent:.0f} px with {inside.sum()} of 68 key '
                       f'points in the picture of {width} x {height} px; want one that it shows')
    crop = static_crop(landmarks[None])
    rigid = list(face.RIGID_POINTS)
    depth = crop.to_crop(landmarks[rigid])[:, 2].mean() - face.TEMPLATE[rigid, 2].mean()
    positions = crop.to_crop(space.sampling.map(vertices)) - [0, 0, depth]
    size = len(space.mask)
    return {'image': media.encode_jpeg(crop.apply(image, size)),
            'position_map': (positions * space.mask[..., None]).astype(np.float32)}


def write_record(path: pathlib.Path, number: int, picture: str, parameters: str, folder: str, size: int) -> None:
    """Make the record of one picture and write it to `path`, as a file of the cache.

    Args:
      path: the file.
      number: what the dataset calls the picture.
      picture, parameters: as in `make_record`.
      folder, size: as in `open_space`.
    """
    made = make_record(picture, parameters, open_space(folder, size))
    records.save_record(path, {'index': np.array([number]), 'image': [made['image']],
                               'position_map': made['position_map'][None]})


def _parameters(path: pathlib.Path, model: BaselFaceModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) shape, (m,) expression and (7,) pose, float64."""
    try:
        stored = basel_face_model.read_mat(path, 'want the parameters of the picture beside it')
    except UserError as error:
        raise Unusable('unreadable', str(error)) from error
    wanted = {'Shape_Para': model.shape.shape[1], 'Exp_Para': model.expression.shape[1],
              'Pose_Para': basel_face_model.POSE}
    found = {name: np.asarray(stored.get(name, ())) for name in wanted}
    for name, count in wanted.items():
        if found[name].size != count:
            raise Unusable('unreadable', f'{path}: {name} is {found[name].shape}; want {count} numbers')
    values = [found[name].astype(np.float64).reshape(-1) for name in wanted]
    if not all(np.isfinite(value).all() for value in values):
        raise Unusable('unreadable', f'{path} holds parameters that are not finite')
    return values[0], values[1], values[2]


def _picture(path: pathlib.Path, size: int) -> np.ndarray | None:
    """(size, size) uint8 grey picture, or None where there is none of that size."""
    found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    return found if found is not None and found.shape == (size, size) else None
