"""Synthetic clip records and position maps, with perfect ground truth for every field of the data contract."""

import json

import cv2
import numpy as np

from input_pipeline.synthetic import expression, motion, render, speech, surface
from input_pipeline.synthetic.identity import Identity, make_identity
from input_pipeline.synthetic.scene import Scene
from input_pipeline.synthetic.surface import UV_MASK, UV_SIZE
from talkinghead_jax import loudness
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.specs import CONTEXT, FRAME_RATE, LANDMARKS, SPEC_VERSION

__all__ = ['KEY_POINT_UV', 'TRIANGLES', 'UV_MASK', 'UV_SIZE', 'make_clip', 'make_position_map']
TRIANGLES = surface.TRIANGLES[:, ::-1]  # wound as `specs.METADATA` has it
KEY_POINT_UV = surface.CONTROL_UV[:LANDMARKS] * (UV_SIZE - 1)  # (68, 2) px of the position map
VERSION = 2  # of what these functions draw from a seed


def make_clip(seed: int, speaker: int, clip: int, frames: int, size: int) -> dict[str, object]:
    """Clip number `clip` of person number `speaker` of the world `seed`.

    Args:
      seed: names the world; the same seed always gives the same people.
      speaker: the person, whose face, voice and manner of moving all clips share.
      clip: the clip, which has its own words, wall and lamp.
      frames: length, at 25 frames a second.
      size: side of the frames in pixels; everything else is the same at any size.

    Returns:
      A record with the fields of `specs.CLIP`.
    """
    identity = make_identity(seed, speaker)
    rng = np.random.default_rng([seed, 2, speaker, clip])
    spoken = speech.make_speech(identity.voice, frames, rng)
    activations = make_activations(identity, spoken, rng)
    moves = motion.make_motion(identity.style, spoken.audio, rng)
    controls = expression.express(identity.controls, activations)
    landmarks = rigid.apply_pose(controls[:, :68], moves).astype(np.float32)
    pose = rigid.estimate_pose(landmarks).astype(np.float32)  # as the preparation of a real clip would find it
    key_frame = int(np.linalg.norm(pose[:CONTEXT, :3], axis=1).argmin())

    scene = Scene(identity, size, np.random.default_rng([seed, 3, speaker, clip]))
    faces = surface.surface_vertices(controls)
    video, mesh, visibility = [], None, None
    for t in range(frames):
        image, vertices, depth = scene.draw(controls[t], faces[t], moves[t])
        video.append(encode_image(image))
        if t == key_frame:
            mesh, visibility = vertices, render.visible(vertices, depth)
    return {
        'clip_id': f'id{speaker:04d}_{clip:03d}',
        'speaker_id': f'id{speaker:04d}',
        'transcript': '',
        'preparation': json.dumps({'source': 'synthetic', 'version': VERSION, 'spec': SPEC_VERSION, 'seed': seed,
                                   'speaker': speaker, 'clip': clip, 'frames': frames, 'size': size}),
        'video': video,
        'audio': spoken.audio,
        'speech_level': np.float32(loudness.speech_level(loudness.frame_power(spoken.audio))),
        'landmarks': landmarks,
        'pose': pose,
        'detected': np.ones(frames, bool),
        'confidence': np.ones(frames, np.float32),
        'key_frame': np.int32(key_frame),
        'closed_mouth_frame': np.int32(face.mouth_opening(rigid.frontalize(landmarks, pose)).argmin()),
        'mesh_vertices': mesh,
        'mesh_visibility': visibility,
    }


def make_position_map(seed: int, index: int, size: int) -> dict[str, np.ndarray]:
    """Picture number `index` of somebody, in a pose wider than a key frame's, with its UV position map.

    Depth translation is zero: an orthographic picture does not show it.

    Returns:
      `image` (size, size, 3) uint8 RGB, `position_map` (64, 64, 3) float32 in crop px; outside `UV_MASK` the map
      repeats the nearest valid position.
    """
    rng = np.random.default_rng([seed, 4, index])
    identity = make_identity(seed, 1_000_000 + index)  # nobody who speaks in a clip
    activations = rng.uniform(0, 1, (1, 6)) * (rng.random((1, 6)) < [0.6, 0.5, 0.4, 0.3, 0.2, 0.4])
    controls = expression.express(identity.controls, activations)[0]
    pose = rng.uniform(-1, 1, 6) * [0.2, 0.3, 0.12, 8, 7, 0]
    image, vertices, _ = Scene(identity, size, rng).draw(controls, surface.surface_vertices(controls), pose)
    return {'image': image, 'position_map': surface.position_map(vertices)}


def make_activations(identity: Identity, spoken: speech.Speech, rng: np.random.Generator) -> np.ndarray:
    """(T, 6) activations of the expression modes: the speech's mouth, blinks, and brows that rise with stress."""
    frames = len(spoken.mouth)
    activations = np.zeros((frames, len(expression.MODES)))
    activations[:, :4] = identity.articulation * spoken.mouth
    at = rng.exponential(2.0) * FRAME_RATE
    while at < frames:
        activations[:, 4] += np.exp(-0.5 * ((np.arange(frames) - at) / 1.4) ** 4)
        at += (0.6 + rng.exponential(2.6)) * FRAME_RATE
    stress = motion.rhythm(spoken.audio)[:, 0]
    activations[:, 5] = 0.25 * np.clip(stress, 0, 2)
    return activations.clip(0, 1)


def encode_image(image: np.ndarray) -> bytes:
    """JPEG of a uint8 RGB image: quality 95, 4:4:4."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
