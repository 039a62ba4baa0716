"""Side-by-side video, paste-back and provenance."""

import json

import numpy as np
import pytest

from talkinghead_jax.synthesis import paste_back, provenance, side_by_side


def frames(count, size=16):
    return [{'image': np.full((size, size, 3), i, np.uint8), 'render': np.full((size, size, 3), 100 + i, np.uint8)}
            for i in range(count)]


def test_columns_have_one_height_and_even_sides():
    picture = side_by_side.side_by_side({'a': np.zeros((64, 64, 3), np.uint8),
                                         'b': np.zeros((720, 1279, 3), np.uint8)}, height=128)
    assert picture.dtype == np.uint8
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    assert picture.shape[1] == 128 + 2 * round(1279 / 720 * 64)


def test_pictures_keep_their_colour_and_order():
    reference = np.full((16, 16, 3), 250, np.uint8)
    joined = next(side_by_side.comparison(reference, frames(1), [np.full((32, 32, 3), 50, np.uint8)], height=64))
    middle = joined[-32, 32::64, 0]
    np.testing.assert_array_equal(middle, [250, 50, 100, 0])


def test_the_captions_can_be_seen():
    joined = side_by_side.side_by_side({'reference': np.zeros((64, 64, 3), np.uint8)}, height=256)
    bar = joined[:len(joined) - 256]
    assert bar.max() > 200
    assert bar.min() < 40


def test_comparison_without_true_video_has_three_columns():
    reference = np.zeros((16, 16, 3), np.uint8)
    joined = list(side_by_side.comparison(reference, frames(3), height=64))
    assert len(joined) == 3
    assert joined[0].shape[1] == 3 * 64


def test_a_shorter_true_video_holds_its_last_frame():
    truth = [np.full((16, 16, 3), 60 + i, np.uint8) for i in range(2)]
    joined = list(side_by_side.comparison(np.zeros((16, 16, 3), np.uint8), frames(4), truth, height=64))
    assert [int(frame[-32, 96, 0]) for frame in joined] == [60, 61, 61, 61]


class Corner:
    def paste(self, frame, image):
        frame = frame.copy()
        frame[:2, :2] = image
        return frame


def test_paste_back_changes_the_crop_only():
    background = np.full((6, 8, 3), 9, np.uint8)
    images = [np.full((2, 2, 3), i, np.uint8) for i in range(3)]
    pasted = list(paste_back.paste_back(Corner(), background, images))
    assert [int(frame[0, 0, 0]) for frame in pasted] == [0, 1, 2]
    assert all((frame[2:] == 9).all() for frame in pasted)
    assert (background == 9).all()


@pytest.fixture
def record(tmp_path):
    source = tmp_path / 'private' / 'me.mp4'
    source.parent.mkdir()
    source.write_bytes(b'abc')
    return provenance.provenance({'source': source}, 3, {'pose': 'still'}, {'generator': 10})


def test_provenance_names_and_hashes_its_inputs_but_no_folders(record):
    assert record['inputs']['source'] == {
        'name': 'me.mp4', 'sha256': 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'}
    assert 'private' not in json.dumps(record)
    assert record['software']['jax'][0].isdigit()
    assert 'Synthetic' in record['notice']


def test_container_tags_hold_the_whole_record(record):
    tags = provenance.container_tags(record)
    assert all(isinstance(value, str) for value in tags.values())
    assert json.loads(tags['comment']) == record


def test_the_sidecar_lies_beside_the_video(record, tmp_path):
    path = provenance.write_sidecar(tmp_path / 'out.mp4', record)
    assert path == tmp_path / 'out.provenance.json'
    assert json.loads(path.read_text()) == record
