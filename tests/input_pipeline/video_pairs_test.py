"""The square about a face, cut out of its film and out of others of the same scene."""

import numpy as np
import pytest

from configs import common
from input_pipeline import detectors, face_tracking, media, preprocess, video_pairs
from input_pipeline.crop import Crop
from input_pipeline.face_tracking import Detections
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face

SIZE = 320, 240  # width and height of the pictures


class Walker:
    """Finds the template's face, 2 px further right in every frame, where it is told to."""

    name = 'walker'
    triangles = np.array([[0, 1, 2]], np.int32)

    def __init__(self, found):
        self.found = np.array(found)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def detect(self, frames):
        count = sum(1 for _ in frames)
        shift = np.arange(count)[:, None, None] * np.array([2.0, 0, 0])
        points = (face.TEMPLATE * 0.5 + shift).astype(np.float32) * self.found[:count, None, None]
        return Detections(points, points, self.found[:count], np.ones(count, np.float32))


def write(path, count=6, scale=1):
    pictures = np.random.default_rng(0).integers(0, 256, (count, SIZE[1] // 16, SIZE[0] // 16, 3), np.uint8)
    square = np.ones((16 * scale, 16 * scale, 1), np.uint8)
    media.write_video(path, (np.kron(picture, square) for picture in pictures))
    return path


@pytest.fixture
def squares(tmp_path, monkeypatch):
    """`FaceSquares` of a `Walker`."""
    def make(found=(True,) * 6, **data):
        monkeypatch.setattr(detectors, 'open_detector', lambda choice: Walker(found))
        config = common.base('x')
        (tmp_path / face_tracking.LANDMARKER).touch()
        config.data.update({'landmarker': str(tmp_path / face_tracking.LANDMARKER), **data})
        return video_pairs.FaceSquares(config)

    return make


@pytest.mark.usefixtures('quickly_compiled')
@pytest.mark.parametrize('crop', preprocess.CROPS)
def test_the_square_is_that_of_preparation(tmp_path, squares, crop):
    path = write(tmp_path / 'a.mp4')
    before = sorted(tmp_path.iterdir())
    cut = squares(crop=crop)(path)
    shown = np.stack(list(cut(video_pairs.frames(path))))
    options = preprocess.Options(crop=crop, min_frames=1)
    record, key_crop = preprocess.prepare_clip(media.Video(path), None, Walker((True,) * 6), 'a', 'a', options)
    stored = np.stack([media.decode_jpeg(data) for data in record['video']]).astype(int)
    assert np.abs(shown - stored).mean() < 4  # of JPEG; a shift of 1 px makes more
    assert np.abs(shown[:, :, 2:] - stored[:, :, :-2]).mean() > 4
    frame = next(video_pairs.frames(path))
    same = [np.array_equal(picture, key_crop.apply(frame)) for picture in cut([frame] * 8)]
    assert sum(same) == (8 if crop == 'static' else 1)  # the last square holds beyond the end
    # Nothing is kept, as preparation would.
    assert [path for path in sorted(tmp_path.iterdir()) if path.suffix != '.task'] == before


def test_the_same_scene_at_another_size_shows_the_same(tmp_path, squares):
    single, double = write(tmp_path / 'a.mp4'), write(tmp_path / 'b.mp4', scale=2)
    cut = squares()(single)
    small, large = (np.stack(list(cut(video_pairs.frames(path)))).astype(int) for path in (single, double))
    assert np.abs(small - large).mean() < 8
    assert np.abs(small[:, :, 8:] - large[:, :, :-8]).mean() > 16


def test_a_film_without_a_face_is_told_of(tmp_path, squares):
    path = write(tmp_path / 'a.mp4')
    with pytest.raises(UserError, match=r'a\.mp4: no face in 4 of 6 frames; want at most 50%'):
        squares((True, True, False, False, False, False))(path)
    squares((True, True, False, False, False, False), max_missing=0.7)(path)
    with pytest.raises(UserError, match=r'b\.mp4 does not exist'):
        squares()(tmp_path / 'b.mp4')


def test_what_the_squares_depend_on_is_said(squares):
    facts = [squares(**data).facts for data in ({}, {'crop': 'smoothed'}, {'max_missing': 0.25})]
    assert len({tuple(sorted(of.items())) for of in facts}) == 3
    assert all(of['square found by'].startswith('mediapipe ') for of in facts)
    with pytest.raises(UserError, match=r'config\.data\.detector is .eyes.; want'):
        squares(detector='eyes')


def test_squares_scale_with_the_picture():
    assert video_pairs._scaled(Crop(-8, 4, 32), 1.5) == Crop(-12, 6, 48)


def test_a_video_is_measured(tmp_path):
    assert video_pairs.measure(write(tmp_path / 'a.mp4', 4)) == (4, SIZE[1], SIZE[0])
