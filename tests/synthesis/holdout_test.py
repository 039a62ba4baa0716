"""The held-out part of a clip, and the score on it."""

import numpy as np
import pytest

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


def test_a_copy_scores_what_a_copy_is_worth(make_record, theta, make_network):
    """A network that returns the truth of frame 60 everywhere: known error at every other frame."""
    def predict(params, model_state, frozen, batch):
        picture = batch['key_image'].astype(np.float32) * 0 + (60 / 127.5 - 1)
        return {'image': picture, 'render': picture, 'matched': picture + 20 / 127.5}

    network = make_network('generator', theta.stage.batch_spec, predict)
    seen, unseen = holdout.split(make_record(frames=80))
    unseen = {**unseen, 'detected': np.arange(20) == 10}  # only frame 70 counts
    scores = holdout.score(network, seen, unseen, decode)
    expected = 20 * np.log10(255 / 10)
    assert scores['model']['psnr'] == pytest.approx(expected, abs=1e-3)
    assert scores['matched_reference']['psnr'] == pytest.approx(expected, abs=1e-3)  # 80 is as far from 70
    with pytest.raises(ValueError, match='held-out'):
        holdout.score(network, seen, {**unseen, 'detected': np.zeros(20, bool)}, decode)
