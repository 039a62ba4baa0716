"""The data contract: every field of a clip record and of each stage's batch.

Axis letters: B batch, T frames, K references, H W C image, V vertices, F triangles, L = 68 landmarks, P PCA
coefficients. Geometry is in crop pixels of a 256 x 256 crop, x right, y down, z towards the viewer, whatever
the resolution of the images (design, Sec. 3).
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np

SPEC_VERSION = 2
FRAME_RATE = 25  # frames a second
SAMPLE_RATE = 16_000  # audio samples a second
CHUNK = SAMPLE_RATE // FRAME_RATE  # 640 samples: the audio of one frame
WINDOW_RADIUS = 3  # the audio window of frame t is the 7 chunks t-3 .. t+3
WINDOW_FEATURES = 26 * 40 + 1  # log-mel of an audio window (spectrogram frames x bands), and a constant
LANDMARKS = 68
CROP_SIZE = 256  # side of the crop in whose pixels all geometry is expressed
CONTEXT = 64  # tau: frames of the reference clip that Phi reads


def context_frames(frames: int) -> int:
    """Length of the reference part of a clip: 64 frames, or 40% of a clip shorter than 80 (design, Sec. 7)."""
    return CONTEXT if frames >= 80 else max(1, int(0.4 * frames))


# frames (N, H, W, 3) uint8, N = 0 too -> (landmarks (N, 68, 3) in frame px, detected (N,) bool)
Detector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Field:
    """One array: shape (a letter is an axis that the record or the dataset fixes), dtype, range and unit."""

    shape: tuple[int | str, ...]
    dtype: str
    meaning: str

    def array(self, **axes: int) -> jax.ShapeDtypeStruct:
        """The abstract array with the letters of `shape` replaced by `axes`."""
        return jax.ShapeDtypeStruct(tuple(axes[a] if isinstance(a, str) else a for a in self.shape), self.dtype)


CLIP: Mapping[str, Field] = {
    'clip_id': Field((), 'str', 'unique name of the clip within its dataset'),
    'speaker_id': Field((), 'str', 'who speaks; splits never share a speaker'),
    'transcript': Field((), 'str', 'what is said, as the dataset tells it; empty where it does not'),
    'preparation': Field((), 'str', 'JSON: version and parameters of the preparation'),
    'video': Field(('T',), 'bytes', 'JPEG of each frame, RGB, quality 95, 4:4:4'),
    'audio': Field(('T', CHUNK), 'int16', '16 kHz mono; row t sounds while frame t is shown'),
    'speech_level': Field((), 'float32', 'of the whole clip (`loudness.speech_level`), in steps of int16'),
    'landmarks': Field(('T', LANDMARKS, 3), 'float32', 'crop px, iBUG order'),
    'pose': Field(('T', 6), 'float32', 'h = [r, t]: rotation vector (rad), translation (crop px)'),
    'detected': Field(('T',), 'bool', 'False where the face was not found and the landmarks are interpolated'),
    'confidence': Field(('T',), 'float32', "0 .. 1, the face detector's own; 0 where the face was not found"),
    'key_frame': Field((), 'int32', 'frame of least rotation with the face found, of the first 64 if there is one'),
    'closed_mouth_frame': Field((), 'int32', 'frame with the smallest inner-lip gap'),
    'mesh_vertices': Field(('V', 3), 'float32', 'crop px: mesh of the key frame'),
    'mesh_visibility': Field(('V',), 'float32', '1 where the key frame sees the vertex, else 0'),
}

# One example of the unprojection set (synthetic position maps, 300W-LP).
POSITION_MAP: Mapping[str, Field] = {
    'image': Field((), 'bytes', 'JPEG, RGB'),
    'position_map': Field(('S', 'S', 3), 'float32', 'crop px at each UV position'),
}

# What belongs to a dataset, travels with every checkpoint and is handed to stages as `frozen`.
METADATA: Mapping[str, Field] = {
    'pca_mean': Field((LANDMARKS, 3), 'float32', 'crop px: mean frontal landmarks without identity'),
    'pca_basis': Field(('P', LANDMARKS, 3), 'float32', 'orthonormal over its last two axes'),
    'pca_deviation': Field(('P',), 'float32', 'crop px: standard deviation of each coefficient'),
    'speech_regression': Field((WINDOW_FEATURES, 'P'), 'float32', 'what log-mel says of the coefficients, linearly: '
                               '`models.audio.window_features` to coefficients in units of their deviation'),
    'pose_mean': Field((6,), 'float32', 'rad, rad, rad, px, px, px'),
    'pose_deviation': Field((6,), 'float32', 'rad, rad, rad, px, px, px'),
    'triangles': Field(('F', 3), 'int32', 'mesh topology: vertex numbers, wound so that the normal (corner 1 - '
                       'corner 0) x (corner 2 - corner 0) of a surface that faces the viewer has positive z'),
    'uv_mask': Field(('S', 'S'), 'float32', '1 where the position map is valid (unprojection only)'),
    'uv_weight': Field(('S', 'S'), 'float32', 'of each UV position in the loss, mean 1 where valid, 0 elsewhere '
                       '(unprojection only)'),
    'uv_mean': Field(('S', 'S', 3), 'float32', 'crop px: mean position map (unprojection only)'),
}


def expression_batch(batch: int, frames: int, noisy: bool = False) -> dict[str, jax.ShapeDtypeStruct]:
    """Psi: `frames` consecutive frames of each clip; in evaluation also with `noisy` sound."""
    audio_frames = frames + 2 * WINDOW_RADIUS
    more = {'noisy_audio': Field((audio_frames, CHUNK), 'int16', 'audio with noise at one ratio')} if noisy else {}
    return _batch(batch, {
        'audio': Field((audio_frames, CHUNK), 'int16', 'row i belongs to frame i - 3; silence beyond the clip'),
        **more,
        'reference_frontal': Field((LANDMARKS, 3), 'float32', 'crop px: frontal landmarks of the key frame'),
        'identity': Field((LANDMARKS, 3), 'float32', 'crop px: closed-mouth frontal landmarks minus template'),
        'target_frontal': Field((frames, LANDMARKS, 3), 'float32', 'crop px: frontal landmarks'),
        'frame_mask': Field((frames,), 'bool', 'False beyond the end of the clip'),
    })


def head_motion_batch(batch: int, context: int, frames: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Phi: `context` reference frames, directly followed by `frames` frames to predict."""
    return _batch(batch, {
        'context_pose': Field((context, 6), 'float32', 'h_1:tau; zeros where masked'),
        'context_audio': Field((context, CHUNK), 'int16', 'x_1:tau'),
        'context_mask': Field((context,), 'bool', 'False before the start of a short context (left padding)'),
        'audio': Field((frames, CHUNK), 'int16', 'x_tau+1:T'),
        'pose': Field((frames, 6), 'float32', 'h_tau+1:T'),
        'frame_mask': Field((frames,), 'bool', 'False beyond the end of the clip'),
    })


def unprojection_batch(batch: int, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Image to UV position map, both `size` x `size`."""
    return _batch(batch, {
        'image': Field((size, size, 3), 'uint8', 'RGB'),
        'position_map': Field((size, size, 3), 'float32', 'crop px'),
    })


def generator_batch(batch: int, references: int, size: int, vertices: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Theta: K references and the key frame's mesh in, one target frame out."""
    return _batch(batch, {
        'references': Field((references, size, size, 3), 'uint8', 'RGB: y_1:K'),
        'reference_landmarks': Field((references, LANDMARKS, 3), 'float32', 'crop px: l_1:K'),
        'reference_pose': Field((references, 6), 'float32', 'h_1:K'),
        'reference_mask': Field((references,), 'bool', 'False for padding; the first is always True'),
        'key_image': Field((size, size, 3), 'uint8', 'RGB: the frame that the mesh was lifted from'),
        'key_landmarks': Field((LANDMARKS, 3), 'float32', 'crop px'),
        'key_pose': Field((6,), 'float32', 'h of the key frame'),
        'mesh_vertices': Field((vertices, 3), 'float32', 'crop px, pose of the key frame'),
        'mesh_visibility': Field((vertices,), 'float32', '0 or 1'),
        'target': Field((size, size, 3), 'uint8', 'RGB: y_t'),
        'target_landmarks': Field((LANDMARKS, 3), 'float32', 'crop px: l_t'),
        'target_pose': Field((6,), 'float32', 'h_t'),
    })


def _batch(batch: int, fields: Mapping[str, Field]) -> dict[str, jax.ShapeDtypeStruct]:
    """Add the batch axis, and the field that every batch has: False marks an example that only pads."""
    fields = {**fields, 'mask': Field((), 'bool', 'False where the example only fills up the last batch')}
    return {name: jax.ShapeDtypeStruct((batch, *field.shape), field.dtype) for name, field in fields.items()}


def differences(batch: Mapping[str, np.ndarray], spec: Mapping[str, jax.ShapeDtypeStruct]) -> list[str]:
    """Field by field, how `batch` departs from `spec`; an empty list where it does not."""
    found = []
    for name in sorted({*batch, *spec}):
        if name not in spec:
            found.append(f'{name}: not expected')
        elif name not in batch:
            found.append(f'{name}: missing, want {spec[name].shape} {spec[name].dtype}')
        elif (batch[name].shape, np.dtype(batch[name].dtype)) != (spec[name].shape, np.dtype(spec[name].dtype)):
            found.append(f'{name}: found {batch[name].shape} {batch[name].dtype}, '
                         f'want {spec[name].shape} {spec[name].dtype}')
    return found
