"""Landmarks of generated frames: what comes without the model, and that the pictures are no film."""

import numpy as np
import pytest

from input_pipeline import detection, media
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face


@pytest.fixture
def no_assets(tmp_path, monkeypatch):
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(tmp_path))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))


def test_a_model_that_is_not_there_is_done_without(no_assets):
    with detection.detector() as detect:
        assert detect is None


def test_a_model_that_is_asked_for_must_be_there(no_assets):
    with pytest.raises(UserError, match=r'no file nowhere\.task'), detection.detector('nowhere.task'):
        pass


def test_no_pictures_have_no_landmarks(shared_data):
    with detection.detector(str(shared_data / 'models/face_landmarker.task')) as detect:
        landmarks, detected = detect(np.zeros((0, 256, 256, 3), np.uint8))
    assert (landmarks.shape, landmarks.dtype) == ((0, 68, 3), np.float32)
    assert (detected.shape, detected.dtype) == ((0,), bool)


def test_each_picture_is_seen_by_itself(shared_data):
    """A grey picture between two of a face has no face, and the face is found as well as without it."""
    portrait = media.resize(media.read_image(shared_data / 'portraits/obama.jpg'), 256)
    frames = np.stack([portrait, np.full_like(portrait, 127), portrait])
    with detection.detector(str(shared_data / 'models/face_landmarker.task')) as detect:
        landmarks, detected = detect(frames)
    assert landmarks.shape == (3, 68, 3)
    assert detected.tolist() == [True, False, True]
    np.testing.assert_allclose(landmarks[0], landmarks[2], atol=1e-3)
    mouth, brows = (landmarks[0][list(points), 1].mean() for points in (face.MOUTH, range(17, 27)))
    assert mouth > brows
