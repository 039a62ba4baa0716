"""The held-out part of a clip, and the score on it."""

import dataclasses

import numpy as np
import pytest

from talkinghead_jax.geometry import face
from talkinghead_jax.synthesis import holdout

SIZE = 8


def decode(jpeg):
    """The fake records' frame t is a plain picture of brightness t."""
    return np.full((SIZE, SIZE, 3), jpeg[0], np.uint8)


def test_the_last_quarter_is_held_out(make_record):
    record = make_record(frames=80)
    seen, unseen = holdout.split(record)
    assert len(seen['video']) == 60
    assert [frame[0] for frame in unseen['video']] == list(range(60, 80))
    np.testing.assert_array_equal(np.concatenate([seen['pose'], unseen['pose']]), record['pose'])
    assert seen['closed_mouth_frame'] < 60


def test_the_key_frame_is_never_held_out(make_record):
    seen, unseen = holdout.split(make_record(frames=40, key=37))
    assert len(seen['video']) == 38
    assert len(unseen['video']) == 2


@pytest.fixture
def network(theta, make_network):
    """Returns the plain picture of frame 60 everywhere; its baseline, one of brightness 80."""
    def predict(params, model_state, frozen, batch):
        picture = batch['key_image'].astype(np.float32) * 0 + (60 / 127.5 - 1)
        return {name: picture for name in ('image', 'render', 'matched')}

    def baselines(batch, frozen):
        return {'copy': {'image': batch['key_image'].astype(np.float32) * 0 + (80 / 127.5 - 1)}}

    network = make_network('generator', theta.stage.batch_spec, predict)
    return dataclasses.replace(network, stage=dataclasses.replace(network.stage, baselines=baselines))


def test_a_copy_scores_what_a_copy_is_worth(make_record, network):
    seen, unseen = holdout.split(make_record(frames=80))
    unseen = {**unseen, 'detected': np.arange(20) == 10}  # only frame 70 counts
    score = holdout.score({'model': network}, seen, unseen, decode)
    expected = 20 * np.log10(255 / 10)
    assert list(score.methods) == ['model', 'copy']
    assert score.frames.tolist() == [10]
    for method in score.methods.values():  # 60 and 80 are as far from 70
        assert set(method) == {'ssim', 'psnr'}
        assert method['psnr'] == pytest.approx(expected, abs=1e-3)
    with pytest.raises(ValueError, match='held-out'):
        holdout.score({'model': network}, seen, {**unseen, 'detected': np.zeros(20, bool)}, decode)


def test_of_many_frames_some_are_scored(make_record, network, monkeypatch):
    monkeypatch.setattr(holdout, 'MOST', 5)
    seen, unseen = holdout.split(make_record(frames=80))
    score = holdout.score({'model': network}, seen, unseen, decode)
    assert score.frames.tolist() == [2, 6, 10, 14, 18]
    assert [picture[0, 0, 0] for picture in score.pictures[holdout.TRUTH]] == [62, 66, 70, 74, 78]
    errors = (np.array([62, 66, 70, 74, 78]) - 60) / 255
    assert score.methods['model']['psnr'] == pytest.approx(np.mean(-20 * np.log10(errors)), abs=1e-3)


def test_landmarks_tell_whether_eyes_and_mouth_follow(make_record, network):
    """True frames are detected exactly, those of the model with a still face, those of the baseline upside down."""
    seen, unseen = holdout.split(make_record(frames=80))
    target = unseen['landmarks']
    shapes = []

    def detector(frames):
        shapes.append(frames.shape)
        brightness = frames[:, 128, 128, 0].astype(int)
        if (brightness == 60).all():
            return np.repeat(target[:1], len(frames), 0), np.arange(len(frames)) > 0  # misses the first
        if (brightness == 80).all():
            return target[::-1] * 2, np.zeros(len(frames), bool)
        return target[brightness - 60], np.ones(len(frames), bool)

    methods = holdout.score({'model': network}, seen, unseen, decode, detector).methods
    assert set(shapes) == {(20, 256, 256, 3)}
    truth, model = methods[holdout.TRUTH], methods['model']
    assert truth['lmd'] == 0
    assert truth['mouth_correlation'] == pytest.approx(1, abs=1e-5)
    assert truth['eye_correlation'] == pytest.approx(1, abs=1e-5)
    assert model['detected'] == pytest.approx(19 / 20)
    assert model['mouth_correlation'] == model['eye_correlation'] == 0  # a still face follows nothing
    mouth = target[:, list(face.MOUTH), :2] - target[:, list(face.MOUTH), :2].mean(1, keepdims=True)
    expected = np.mean([np.hypot(*(mouth[0] - mouth[i]).T).mean() for i in range(1, 20)])
    assert model['lmd'] == pytest.approx(expected, rel=1e-4)
    assert methods['copy']['detected'] == 0
    assert 'lmd' not in methods['copy']
