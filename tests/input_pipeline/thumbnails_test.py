"""Small pictures of files that something is wrong with."""

import numpy as np
import pytest
from PIL import Image

from input_pipeline import media
from input_pipeline.thumbnails import thumbnail


def gray(path, values):
    media.write_video(path, [np.full((40, 64, 3), value, np.uint8) for value in values])
    return path


@pytest.mark.parametrize(('frames', 'shown'), [(20, 12), (5, 4), (1, 0)])
def test_a_film_shows_a_frame_after_its_beginning_or_its_last(tmp_path, frames, shown):
    values = 20 + 10 * np.arange(frames)
    picture = thumbnail(gray(tmp_path / 'a.mp4', values), 32)
    assert picture.shape == (20, 32, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_allclose(picture, values[shown], atol=4)


def test_a_picture_keeps_its_shape_and_is_never_enlarged(tmp_path):
    Image.new('RGB', (30, 90), (10, 200, 30)).save(tmp_path / 'a.png')
    assert thumbnail(tmp_path / 'a.png', 45).shape == (45, 15, 3)
    np.testing.assert_array_equal(thumbnail(tmp_path / 'a.png', 500), np.full((90, 30, 3), [10, 200, 30]))


def test_what_has_no_picture(tmp_path, monkeypatch):
    (tmp_path / 'junk.mp4').write_bytes(np.random.default_rng(0).bytes(3000))
    (tmp_path / 'empty.mp4').touch()
    (tmp_path / 'words.txt').write_text('no film\n')
    whole = gray(tmp_path / 'whole.mp4', [9] * 30).read_bytes()
    (tmp_path / 'cut.mp4').write_bytes(whole[:len(whole) // 3])
    for name in ('junk.mp4', 'empty.mp4', 'words.txt', 'cut.mp4', 'missing.mp4', '.', 'a clip, described'):
        assert thumbnail(tmp_path / name) is None, name
    Image.new('RGB', (100, 100)).save(tmp_path / 'huge.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)  # more than twice that is an error of its own
    assert thumbnail(tmp_path / 'huge.png') is None
