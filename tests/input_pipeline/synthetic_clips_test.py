"""Synthetic clips: the record, and the ties between sound, mouth and head."""

import cv2
import numpy as np
import pytest

from input_pipeline.synthetic import clips, motion, render, speech, surface
from input_pipeline.synthetic.identity import make_identity
from talkinghead_jax import specs
from talkinghead_jax.geometry import face, rigid

FRAMES = 90


@pytest.fixture(scope='module')
def record():
    return clips.make_clip(0, 2, 1, FRAMES, 64)


def _performance(speaker, clip, frames=200):
    """Sound and head motion of a clip, without the pictures."""
    identity = make_identity(0, speaker)
    rng = np.random.default_rng([0, 2, speaker, clip])
    spoken = speech.make_speech(identity.voice, frames, rng)
    return spoken, motion.make_motion(identity.style, spoken.audio, rng)


def test_record_follows_the_contract(record):
    assert set(record) == set(specs.CLIP)
    axes = {'T': FRAMES, 'V': int(surface.UV_MASK.sum())}
    for name, field in specs.CLIP.items():
        if field.dtype not in ('str', 'bytes'):
            value, wanted = np.asarray(record[name]), field.array(**axes)
            assert (value.shape, value.dtype) == (wanted.shape, wanted.dtype), name
    assert len(record['video']) == FRAMES
    assert all(isinstance(frame, bytes) for frame in record['video'])
    assert cv2.imdecode(np.frombuffer(record['video'][0], np.uint8), cv2.IMREAD_COLOR).shape == (64, 64, 3)
    assert record['speaker_id'] == 'id0002'


def test_same_seed_same_bytes_other_seed_other_bytes(record):
    again, other = clips.make_clip(0, 2, 1, FRAMES, 64), clips.make_clip(1, 2, 1, FRAMES, 64)
    for name, value in record.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)
    assert other['video'] != record['video']


def test_ground_truth_is_the_same_at_any_size(record):
    large = clips.make_clip(0, 2, 1, 5, 96)
    small = clips.make_clip(0, 2, 1, 5, 48)
    for name in ('landmarks', 'audio', 'pose', 'mesh_vertices'):
        np.testing.assert_array_equal(large[name], small[name])


def test_pose_is_what_preparation_would_find(record):
    frontal = rigid.frontalize(record['landmarks'], record['pose'])
    rigid_points = frontal[:, list(face.RIGID_POINTS)]
    assert np.abs(rigid_points - rigid_points[0]).max() < 0.05  # no expression moves them
    np.testing.assert_allclose(rigid.apply_pose(frontal, record['pose']), record['landmarks'], atol=1e-3)
    identity = make_identity(0, 2)
    np.testing.assert_allclose(rigid_points[0], identity.controls[list(face.RIGID_POINTS)], atol=0.05)


def test_key_frame_and_mesh(record):
    turns = np.linalg.norm(record['pose'][:64, :3], axis=1)
    assert record['key_frame'] == turns.argmin()
    grid = record['mesh_vertices'][surface.NEAREST_VERTEX]
    at = (surface.CONTROL_UV[:68] * 63).astype(np.float32)
    on_mesh = cv2.remap(grid, at[:, None, :1], at[:, None, 1:], cv2.INTER_LINEAR)[:, 0]
    assert np.linalg.norm(on_mesh - record['landmarks'][record['key_frame']], axis=1).max() < 1.0
    assert 0.5 < record['mesh_visibility'].mean() < 1.0
    assert set(np.unique(record['mesh_visibility'])) == {0.0, 1.0}


def test_mouth_is_closed_in_silence_and_opens_in_speech():
    spoken = [_performance(speaker, 0)[0] for speaker in range(6)]
    mouth = np.concatenate([s.mouth for s in spoken])
    loud = np.concatenate([motion.loudness(s.audio) for s in spoken])
    around = np.max([np.roll(loud, shift) for shift in range(-3, 4)], axis=0)
    silent = around < 0.05
    assert 0.02 < silent.mean() < 0.5
    assert mouth[silent].max() < 0.1
    assert mouth[loud > 0.9, 0].mean() > 0.3
    assert mouth.min() >= 0
    assert mouth.max() <= 1


def test_closed_mouth_frame_is_closed(record):
    openings = face.mouth_opening(rigid.frontalize(record['landmarks'], record['pose']))
    assert openings[record['closed_mouth_frame']] == openings.min() < 2.0
    assert openings.max() > 5.0


def test_clips_share_the_style_and_styles_differ():
    def style(speaker, clip):
        spoken, pose = _performance(speaker, clip)
        signals = np.c_[np.ones(len(pose)), motion.rhythm(spoken.audio)]
        return np.linalg.lstsq(signals, pose, rcond=None)[0][1:, :3]

    first, second = (np.array([style(speaker, clip) for speaker in range(12)]) for clip in (0, 1))
    within = np.linalg.norm(first - second, axis=(1, 2)).mean()
    between = np.linalg.norm(first - np.roll(second, 1, axis=0), axis=(1, 2)).mean()
    assert within < 0.4 * between
    amplitude = np.linalg.norm(first, axis=(1, 2))
    assert amplitude.max() > 3 * amplitude.min()


def test_motion_follows_the_rhythm_of_the_sound():
    shares, poses = [], []
    for speaker in range(20):
        spoken, pose = _performance(speaker, 0)
        signals = np.c_[np.ones(len(pose)), motion.rhythm(spoken.audio)]
        residual = pose - signals @ np.linalg.lstsq(signals, pose, rcond=None)[0]
        scale = pose.std(axis=0)
        shares.append(1 - ((residual / scale) ** 2).mean())
        poses.append(pose)
    assert 0.7 < np.mean(shares) < 0.97
    largest = np.abs(poses).max(axis=(0, 1))
    assert (largest[:3] < [0.60, 0.75, 0.35]).all()
    assert largest[3:].max() < 30


def test_rhythm_is_local():
    """A sound more than a second away changes nothing."""
    audio, _ = _performance(1, 0)
    changed = audio.audio.copy()
    changed[120:] = 0
    np.testing.assert_allclose(motion.rhythm(changed)[:90], motion.rhythm(audio.audio)[:90], atol=1e-12)


def test_renderer_draws_a_square_where_it_should():
    vertices = np.array([[63.5, 63.5, 0], [191.5, 63.5, 0], [63.5, 191.5, 0], [191.5, 191.5, 0]], float)
    triangles = np.array([[0, 2, 1], [1, 2, 3]], np.int32)
    attributes = np.tile(np.float32([200, 100, 50, 1, 0, -1, 0]), (4, 1))
    texture = np.ones((4, 4, 4), np.float32)
    image, depth = render.render(vertices, triangles, attributes, texture, np.zeros((128, 128, 3), np.float32), 64)
    expected = np.zeros((64, 64, 3), np.uint8)
    expected[16:48, 16:48] = 200, 100, 50
    np.testing.assert_array_equal(image, expected)
    assert np.isfinite(depth).sum() == 64 ** 2
    points = np.array([[70, 70, 0], [70, 70, -10], [300, 70, 0]], float)  # on it, behind it, outside the picture
    assert render.visible(points, depth).tolist() == [1, 0, 0]
