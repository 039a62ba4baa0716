"""Material of a video from media files: what is tracked, what is refused, and in which order."""

import contextlib

import numpy as np
import pytest
from fake_records import fake_record
from PIL import Image

from configs import demo
from input_pipeline import detectors, media, preprocess, sources
from talkinghead_jax.errors import UserError

FRAMES = 30


@pytest.fixture
def config():
    return demo.get_config('')


@pytest.fixture
def files(tmp_path):
    """A film with sound, and a picture."""
    film, picture = tmp_path / 'film.mp4', tmp_path / 'face.png'
    frames = (np.full((64, 64, 3), 8 * t, np.uint8) for t in range(FRAMES))
    media.write_video(film, frames, np.arange(FRAMES * 640, dtype=np.int16))
    Image.new('RGB', (64, 64), 'red').save(picture)
    return {'film': str(film), 'picture': str(picture)}


@pytest.fixture(autouse=True)
def tracked(monkeypatch, config):
    """Stands in for the tracking; lists what was tracked, with which landmarker."""
    calls = []

    def prepare_inputs(paths, config, data_dir):
        calls.append((paths[0], config.data.landmarker))
        return [fake_record(len(calls), FRAMES)], []

    monkeypatch.setattr(sources.preparation, 'prepare_inputs', prepare_inputs)
    return calls


def test_clip_speech_and_reference(files, tracked, config, tmp_path):
    film = files['film']
    config.data.landmarker = 'x.task'
    made = sources.material({'source': film, 'audio': film, 'ref_pose': film}, config, tmp_path)
    assert tracked == [(film, 'x.task')] * 2
    assert (made['source']['clip_id'], made['reference']['clip_id']) == ('clip001', 'clip002')
    assert made['driver'] is None
    assert made['path'] == film
    np.testing.assert_array_equal(made['audio'], media.read_audio(film))
    assert len(list(made['truth'])) == FRAMES


def test_a_driver_brings_its_own_sound_and_truth(files, config, tmp_path):
    made = sources.material({'source': files['film'], 'driving': files['film']}, config, tmp_path)
    np.testing.assert_array_equal(made['audio'], made['driver']['audio'])
    frames = list(made['truth'])
    assert frames[7].shape == (config.image_size, config.image_size, 3)
    assert abs(int(frames[7].mean()) - 7) <= 1  # the fake record's picture of frame 7
    assert made['reference'] is None


def test_a_picture_may_be_the_source_only(files, config, tmp_path, monkeypatch):
    monkeypatch.setattr(detectors, 'open_detector', contextlib.nullcontext)
    monkeypatch.setattr(preprocess, 'prepare_image', lambda image, detector, name, size: {
        'color': image[0, 0].tolist(), 'detector': detector, 'size': size})
    picture, model = files['picture'], tmp_path / 'x.task'
    model.touch()
    config.data.landmarker = str(model)
    made = sources.material({'source': picture, 'audio': files['film']}, config, tmp_path)
    assert made['source'] == {'color': [255, 0, 0], 'detector': detectors.Choice('mediapipe', str(model)),
                              'size': config.image_size}
    config.data.update({'detector': 'prnet', 'prnet': str(tmp_path)})
    made = sources.material({'source': picture, 'audio': files['film']}, config, tmp_path)
    assert made['source']['detector'] == detectors.Choice('prnet', str(model), str(tmp_path))
    for name in ('driving', 'ref_pose'):
        with pytest.raises(UserError, match=f'--{name}={picture} is a picture; want a video'):
            sources.material({'source': files['film'], 'audio': files['film'], name: picture}, config, tmp_path)


def test_speech_that_is_none_is_refused_before_the_tracking(files, tracked, config, tmp_path):
    with pytest.raises(UserError, match=r'face\.png'):
        sources.material({'source': files['film'], 'audio': files['picture']}, config, tmp_path)
    assert tracked == []
