"""Which detector is meant, and that other files of it make other records."""

import shutil

import numpy as np
import pytest

from configs import common
from input_pipeline import detectors
from talkinghead_jax.errors import UserError


def _config(**data):
    config = common.base('x')
    config.data.update(data)
    return config


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv('TALKINGHEAD_ASSETS', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    for data, sentence in (({'detector': 'fan'}, r"config\.data\.detector is 'fan'; want one of mediapipe, prnet"),
                           ({'detector': 'prnet'}, r"config\.data\.prnet is ''; want a folder"),
                           ({'landmarker': 'no.task'}, r'no file no\.task'),
                           ({'detector': 'prnet', 'prnet': str(tmp_path), 'landmarker': 'no.task'},
                            r'no file no\.task')):
        with pytest.raises(UserError, match=sentence):
            detectors.find(_config(**data))


def test_prnet_takes_the_landmarker_of_the_flag_else_its_own_else_any(tmp_path, monkeypatch):
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(tmp_path / 'assets'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    folder = tmp_path / 'prnet'
    models = [tmp_path / 'assets' / 'face_landmarker.task', folder / 'face_landmarker.task', tmp_path / 'x.task']
    folder.mkdir()
    models[0].parent.mkdir()
    wanted = [detectors.Choice('prnet', '', str(folder))]
    found = [detectors.find(_config(detector='prnet', prnet=str(folder)))]
    for model in models:
        model.touch()
        flag = str(model) if model == models[2] else ''
        found.append(detectors.find(_config(detector='prnet', prnet=str(folder), landmarker=flag)))
        wanted.append(detectors.Choice('prnet', str(model), str(folder)))
    assert found == wanted


def test_other_files_have_another_fingerprint(tmp_path, shared_data):
    model = tmp_path / 'face_landmarker.task'
    found = []
    for content in (b'a', b'b'):
        model.write_bytes(content)
        choice = detectors.find(_config(landmarker=str(model)))
        assert choice == detectors.Choice('mediapipe', str(model))
        found.append(detectors.fingerprint(choice))
    (tmp_path / 'face_ind.txt').write_text('0 1 2')
    with pytest.raises(UserError, match=r'uv_kpt_ind\.txt is missing'):
        detectors.fingerprint(detectors.Choice('prnet', '', str(tmp_path)))
    for name in ('face_ind.txt', 'uv_kpt_ind.txt'):
        shutil.copyfile(shared_data / 'topology/prnet_uv-data' / name, tmp_path / name)
    (tmp_path / 'prnet.npz').touch()
    found += [detectors.fingerprint(detectors.Choice('prnet', landmarker, str(tmp_path)))
              for landmarker in ('', str(model))]
    assert len(set(found)) == 4


def test_the_mesh_is_known_without_opening_the_detector(shared_data):
    choice = detectors.choose('mediapipe', str(shared_data / 'models/face_landmarker.task'))
    with detectors.open_detector(choice) as detector:
        assert (detectors.triangles(choice) == detector.triangles).all()
    choice = detectors.Choice('prnet', '', str(shared_data / 'topology/prnet_uv-data'))
    assert detectors.triangles(choice).max() == 43866


def test_a_detector_that_cannot_be_opened_is_found_beforehand(shared_data, tmp_path):
    good, bad = shared_data / 'models/face_landmarker.task', tmp_path / 'x.task'
    bad.write_bytes(b'no model')
    detectors.check(detectors.Choice('mediapipe', str(good)))
    with pytest.raises(UserError, match=r'x\.task is not a face landmarker'):
        detectors.check(detectors.Choice('mediapipe', str(bad)))
    for name in ('face_ind.txt', 'uv_kpt_ind.txt'):
        shutil.copyfile(shared_data / 'topology/prnet_uv-data' / name, tmp_path / name)
    (tmp_path / 'prnet.npz').write_bytes(b'no weights')
    with pytest.raises(UserError, match=r'has no usable prnet\.npz .*damaged'):
        detectors.check(detectors.Choice('prnet', str(good), str(tmp_path)))
    np.savez(tmp_path / 'prnet.npz', **{'params/enter/kernel': np.zeros((4, 4, 3, 1), np.float32)})
    detectors.check(detectors.Choice('prnet', str(good), str(tmp_path)))
    with pytest.raises(UserError, match=r'x\.task is not a face landmarker'):
        detectors.check(detectors.Choice('prnet', str(bad), str(tmp_path)))
