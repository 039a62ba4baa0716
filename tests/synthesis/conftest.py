"""Small fake networks whose outputs can be computed by hand, and fake clip records."""

import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax import loudness, specs
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.models import head_motion
from talkinghead_jax.stages.base import Stage
from talkinghead_jax.synthesis.network import Network

SIZE = 8


def fake_network(name, spec, predict, frozen=None, parts=None):
    stage = Stage(name, (), spec, None, None, predict, None, None, parts=parts or {})
    return Network(stage, {'net': {'gain': jnp.float32(2.0)}}, {'net': {}}, frozen or {})


@pytest.fixture
def make_network():
    return fake_network


@pytest.fixture
def psi():
    """Lowers the lips by the loudness of the 7 chunks around the frame."""
    def predict(params, model_state, frozen, batch):
        loudness = jnp.abs(batch['audio'].astype(jnp.float32)).mean(-1)
        frames = batch['frame_mask'].shape[1]
        window = sum((i + 1) * loudness[:, i:i + frames] for i in range(7))
        moved = jnp.zeros((68, 3)).at[55:60, 1].set(params['net']['gain'])
        still = jnp.asarray(face.TEMPLATE, jnp.float32)[None] + batch['identity']
        return {'frontal': still[:, None] + window[..., None, None] * moved[None, None]}

    return fake_network('expression', specs.expression_batch(1, 16), predict)


@pytest.fixture
def phi():
    """Holds the last pose, raised by the number of context frames heard."""
    def read(params, model_state, frozen, batch):
        return {'last': batch['context_pose'][:, -1], 'heard': batch['context_mask'].sum(-1)[:, None, None]}

    def follow(params, model_state, frozen, batch):
        frames = batch['audio'].shape[1] - 2 * head_motion.RADIUS
        last = jnp.broadcast_to(batch['person']['last'][:, None], (1, frames, 6))
        return {'pose': last + batch['person']['heard'] * jnp.float32(1e-3)}

    spec = specs.head_motion_batch(1, 64, 64)
    return fake_network('head_motion', spec, None, parts={'read': read, 'follow': follow})


@pytest.fixture
def theta():
    """Shows the first reference, brightened by the target's horizontal place; counts the valid references."""
    def predict(params, model_state, frozen, batch):
        first = batch['references'][:, 0].astype(jnp.float32) / 127.5 - 1
        count = batch['reference_mask'].sum(-1).astype(jnp.float32)[:, None, None, None]
        moved = (batch['target_landmarks'][:, 30, 0] - 127.5)[:, None, None, None] / 100
        key = batch['key_image'].astype(jnp.float32) / 127.5 - 1
        return {'image': first + moved, 'render': key, 'matched': jnp.zeros_like(first) + count / 127.5 - 1}

    return fake_network('generator', specs.generator_batch(2, 4, SIZE, 5), predict)


@pytest.fixture
def make_record():
    def make(frames=80, seed=0, key=7):
        rng = np.random.default_rng(seed)
        pose = (rng.normal(0, 1, (frames, 6)) * [0.1, 0.1, 0.05, 3, 3, 1]).astype(np.float32)
        frontal = (face.TEMPLATE + rng.normal(0, 1, (68, 3)) + rng.normal(0, 0.3, (frames, 68, 3))).astype(np.float32)
        audio = rng.integers(-99, 99, (frames, specs.CHUNK)).astype(np.int16)
        return {
            'clip_id': f'clip{seed}', 'speaker_id': 'nobody', 'preparation': '{}', 'transcript': '',
            'video': [bytes([frame]) for frame in range(frames)],
            'audio': audio, 'speech_level': np.float32(loudness.speech_level(loudness.frame_power(audio))),
            'landmarks': rigid.apply_pose(frontal, pose), 'pose': pose, 'detected': np.ones(frames, bool),
            'confidence': np.full(frames, 0.9, np.float32),
            'key_frame': np.int32(min(key, frames - 1)), 'closed_mouth_frame': np.int32(frames // 2),
            'mesh_vertices': np.zeros((5, 3), np.float32), 'mesh_visibility': np.ones(5, np.float32),
        }

    return make


@pytest.fixture
def decode():
    """The frame's number as its brightness; `decode.seen` lists the frames that were decoded."""
    def decode_frame(jpeg):
        decode_frame.seen.append(jpeg[0])
        return np.full((SIZE, SIZE, 3), jpeg[0], np.uint8)

    decode_frame.seen = []
    return decode_frame
