"""Clip records that cost nothing to make: random faces posed from the template, small JPEGs, noise for speech."""

import cv2
import numpy as np

from talkinghead_jax import loudness, specs
from talkinghead_jax.geometry import face, rigid

VERTICES = 30


def fake_record(seed: int = 0, frames: int = 100, size: int = 64) -> dict:
    """A record with every field of `specs.CLIP`: the frame's number is painted as its grey value."""
    rng = np.random.default_rng(seed)
    identity = 0.5 * rng.normal(size=(68, 3))
    frontal = face.TEMPLATE + identity + 2.0 * rng.normal(size=(frames, 68, 3))
    pose = np.concatenate([0.1 * rng.normal(size=(frames, 3)), 3.0 * rng.normal(size=(frames, 3))], axis=-1)
    landmarks = rigid.apply_pose(frontal, pose)
    rotation = np.linalg.norm(pose[:min(specs.CONTEXT, frames), :3], axis=-1)
    audio = rng.integers(-3000, 3000, (frames, specs.CHUNK)).astype(np.int16)
    return {
        'clip_id': f'clip{seed:03d}', 'speaker_id': f'speaker{seed:03d}', 'transcript': f'clip number {seed}',
        'preparation': '{"fake": 1}',
        'video': [_jpeg(np.full((size, size, 3), t % 256, np.uint8)) for t in range(frames)],
        'audio': audio, 'speech_level': np.float32(loudness.speech_level(loudness.frame_power(audio))),
        'landmarks': landmarks.astype(np.float32), 'pose': pose.astype(np.float32),
        'detected': np.ones(frames, bool), 'confidence': np.full(frames, 0.9, np.float32),
        'key_frame': np.asarray(rotation.argmin(), np.int32),
        'closed_mouth_frame': np.asarray(face.mouth_opening(frontal).argmin(), np.int32),
        'mesh_vertices': rng.uniform(60, 200, (VERTICES, 3)).astype(np.float32),
        'mesh_visibility': (rng.uniform(size=VERTICES) > 0.3).astype(np.float32),
    }


def fake_position_map(seed: int = 0, size: int = 64) -> dict:
    """A record of `specs.POSITION_MAP`: a plane that fills the crop."""
    v, u = np.mgrid[:size, :size]
    position_map = np.stack([u, v, 0 * u], axis=-1) * (specs.CROP_SIZE / size) + seed
    return {'image': _jpeg(np.random.default_rng(seed).integers(0, 255, (size, size, 3)).astype(np.uint8)),
            'position_map': position_map.astype(np.float32)}


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
