"""What a dataset knows about itself: expression basis and its regression on speech, pose statistics, mesh topology,
mean position map.

Read from the training records alone, and saved as `metadata.npz` (`specs.METADATA`) beside the TFRecords.
"""

import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from input_pipeline import speech_regression
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face, rigid

FILE = 'metadata.npz'
CLIPS = 20_000  # read at most, spread evenly: a record holds the pictures too, and VoxCeleb2 has a million
PCA_FRAMES = 100_000  # at most, spread evenly over the clips
MEAN_MAPS = 4000
FAR_FROM_TEMPLATE = 12.0  # crop px: mean distance of the mean face, beyond which something is wrong with the tracking
_SMALLEST_DEVIATION = (1e-3, 1e-3, 1e-3, 0.1, 0.1, 0.1)  # rad, px: a still head has a deviation too

_log = logging.getLogger(__name__)


def clip_statistics(clips: Sequence[Mapping[str, Any]], components: int) -> dict[str, np.ndarray]:
    """The expression basis and the pose statistics of clip records.

    Only frames in which the face was found count, of at most `CLIPS` clips. The basis is fitted to frontal landmarks
    minus the identity offset of their clip (paper, Sec. 3.2), to at most `PCA_FRAMES` frames. A warning tells where
    the mean face lies far from the template: then the landmarks are not what the models expect.

    Args:
      clips: training records (`specs.CLIP`), read one after the other, and some of them a second time.
      components: P of the basis.

    Returns:
      The fields `pca_*`, `pose_*` and `speech_regression` of `specs.METADATA`.

    Raises:
      UserError: the clips hold too few frames for the basis.
    """
    chosen_clips = np.unique(np.linspace(0, len(clips) - 1, min(CLIPS, len(clips))).round().astype(int))
    per_clip = max(1, PCA_FRAMES // max(len(chosen_clips), 1))
    expressions, mean_face, total, squares, count = [], 0.0, np.zeros(6), np.zeros(6), 0
    for number in tqdm(chosen_clips, 'statistics', unit='clip'):
        clip = clips[int(number)]
        detected = np.flatnonzero(clip['detected'])
        pose = clip['pose'][detected].astype(np.float64)
        total, squares, count = total + pose.sum(0), squares + (pose ** 2).sum(0), count + len(pose)
        chosen = detected[np.linspace(0, len(detected) - 1, min(per_clip, len(detected))).round().astype(int)]
        expressions.append(expression(clip, chosen))
        mean_face = mean_face + rigid.frontalize(clip['landmarks'][chosen], clip['pose'][chosen]).mean(axis=0) / len(
            chosen_clips)
    _check_template(mean_face)
    frames = sum(map(len, expressions))
    if frames <= components:
        raise UserError(f'the training clips hold {frames} frames with a face; the {components} components of '
                        'config.expression.model.components need more')
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean ** 2, 0))
    pca = face.fit_pca(np.concatenate(expressions), components)
    return {
        **pca,
        'speech_regression': speech_regression.fit(clips, pca),
        'pose_mean': mean.astype(np.float32),
        'pose_deviation': np.maximum(deviation, _SMALLEST_DEVIATION).astype(np.float32),
    }


def _check_template(mean_face: np.ndarray) -> None:
    distance = np.linalg.norm(mean_face - face.TEMPLATE, axis=-1).mean()
    if distance > FAR_FROM_TEMPLATE:
        _log.warning('the mean face of the training clips is %.1f px from the template (want less than %g): look at '
                     'the data with --preview', distance, FAR_FROM_TEMPLATE)


def expression(clip: Mapping[str, Any], frames: np.ndarray) -> np.ndarray:
    """(N, 68, 3) crop px: frontal landmarks of `frames` minus the identity offset of the clip."""
    closed = clip['closed_mouth_frame'][None]
    frontal = rigid.frontalize(clip['landmarks'][[*frames, *closed]], clip['pose'][[*frames, *closed]])
    return frontal[:-1] - face.identity_offset(frontal[-1])


def position_map_statistics(examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """`uv_mean` of `specs.METADATA`: the mean of at most `MEAN_MAPS` position maps, spread evenly, crop px."""
    chosen = np.linspace(0, len(examples) - 1, min(MEAN_MAPS, len(examples))).round().astype(int)
    total = sum(np.asarray(examples[number]['position_map'], np.float64) for number in chosen)
    return {'uv_mean': (total / len(chosen)).astype(np.float32)}


def save(directory: str | os.PathLike, metadata: Mapping[str, np.ndarray]) -> None:
    """Write `DIRECTORY/metadata.npz`, whole or not at all.

    Raises:
      ValueError: a field is not one of `specs.METADATA`, or has another dtype or rank.
    """
    for name, value in metadata.items():
        field = specs.METADATA.get(name)
        if field is None or value.dtype != np.dtype(field.dtype) or value.ndim != len(field.shape):
            raise ValueError(f'metadata field {name} {value.shape} {value.dtype} departs from specs.METADATA')
    path = pathlib.Path(directory) / FILE
    temporary = path.with_name(f'.{FILE}.{os.getpid()}.tmp')
    with open(temporary, 'wb') as file:
        np.savez(file, **metadata)
    os.replace(temporary, path)


def load(directory: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read what `save` wrote."""
    with np.load(pathlib.Path(directory) / FILE) as stored:
        return {name: stored[name] for name in stored.files}
