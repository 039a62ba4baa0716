"""Conversion as a user meets it: where the result goes, what the checksum says, which mistakes are named."""

import dataclasses
import hashlib
import os
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest

from third_party import assets, convert
from third_party.vgg19 import convert as vgg19

GOLDEN = pathlib.Path(__file__).parent / 'golden'
LAYOUT = GOLDEN / 'vgg19_layout_legacy.pth'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """$TALKINGHEAD_ASSETS, empty."""
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(tmp_path / 'assets'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'assets'


def test_what_is_saved_is_loaded(folder):
    params = {'a': {'kernel': np.arange(6.0).reshape(2, 3), 'bias': np.ones(2, np.float32)}, 'scale': np.float32(3)}
    path = assets.save('net', params, 'abc')
    assert path == folder / 'net.npz'
    assert os.listdir(folder) == ['net.npz']  # no temporary file is left
    assert path.stat().st_mode & 0o044  # others may read it
    found = assets.load('net')
    assert set(found) == {'a', 'scale'}
    assert set(found['a']) == {'kernel', 'bias'}
    np.testing.assert_array_equal(found['a']['kernel'], params['a']['kernel'])
    assert found['a']['bias'].dtype == np.float32
    assert assets.source_sha256('net') == 'abc'


def test_the_cache_is_the_second_place_to_look(folder, tmp_path, monkeypatch):
    monkeypatch.delenv('TALKINGHEAD_ASSETS')
    cached = assets.save('net', {'x': np.zeros(1)}, 'cached')
    assert cached == tmp_path / 'cache/talkinghead_jax/net.npz'
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(folder))
    assert assets.source_sha256('net') == 'cached'
    assets.save('net', {'x': np.zeros(1)}, 'own')
    assert assets.source_sha256('net') == 'own'


def test_missing_and_damaged_files_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf'weights of net.*{folder}/net\.npz or {tmp_path}/cache'):
        assets.load('net')
    path = assets.save('net', {'x': np.zeros(100)}, 'abc')
    path.write_bytes(path.read_bytes()[:200])
    for use in (assets.load, assets.source_sha256):
        with pytest.raises(ValueError, match=r'net\.npz is damaged'):
            use('net')


def test_a_failed_write_leaves_the_old_file(folder, monkeypatch):
    assets.save('net', {'x': np.zeros(3)}, 'old')

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(np, 'savez', full)
    with pytest.raises(OSError, match=r'cannot write .*net\.npz: No space left'):
        assets.save('net', {'x': np.ones(3)}, 'new')
    assert assets.source_sha256('net') == 'old'
    assert os.listdir(folder) == ['net.npz']


def test_a_folder_that_is_a_file(folder):
    folder.write_text('in the way')
    with pytest.raises(OSError, match=r'cannot write .*net\.npz.*writable folder'):
        assets.save('net', {'x': np.zeros(1)}, 'abc')


def test_the_published_file_is_known_by_its_checksum(folder, tmp_path, monkeypatch):
    digest = hashlib.sha256(LAYOUT.read_bytes()).hexdigest()
    monkeypatch.setattr(vgg19, 'PUBLISHED', dataclasses.replace(vgg19.PUBLISHED, sha256=digest[:8]))
    path = shutil.copy(LAYOUT, tmp_path / vgg19.PUBLISHED.file)
    converted = convert.convert('vgg19', path)
    assert converted.path == folder / 'vgg19.npz'
    assert converted.verdict == f'sha256 {digest}, as published'
    assert assets.source_sha256('vgg19') == digest
    assert set(assets.load('vgg19')) == {name for _, name, *_ in vgg19._layers(vgg19.WIDTHS)}


def test_the_published_name_with_another_checksum_is_refused(folder, tmp_path):
    path = shutil.copy(LAYOUT, tmp_path / 'vgg19-dcbb9e9d.pth')
    with pytest.raises(ValueError, match=r'vgg19-dcbb9e9d\.pth is damaged: its sha256 is \w{64}.*dcbb9e9d; get it'):
        convert.convert('vgg19', path)
    assert not folder.exists()


def test_the_right_tensors_from_elsewhere_are_taken_with_a_remark(folder):
    verdict = convert.convert('vgg19', LAYOUT).verdict
    assert 'not that of the published vgg19-dcbb9e9d.pth' in verdict
    assert (folder / 'vgg19.npz').is_file()


def test_a_package_that_serves_several_networks(folder, tmp_path, monkeypatch):
    package = types.ModuleType('third_party.iresnet.convert')
    package.PUBLISHED = {name: convert.Published(f'{name}.bin', '', 'https://example.org')
                         for name in ('iresnet50', 'iresnet100')}
    package.read = lambda path, network: {'number': np.frombuffer(path.read_bytes(), np.uint8), 'of': network}
    package.convert = lambda tensors, network: {tensors['of']: {network: tensors['number']}}
    monkeypatch.setitem(sys.modules, package.__name__, package)
    path = tmp_path / 'iresnet100.bin'
    path.write_bytes(b'ab')
    converted = convert.convert('iresnet100', path)
    assert converted.path == folder / 'iresnet100.npz'
    np.testing.assert_array_equal(assets.load('iresnet100')['iresnet100']['iresnet100'], [97, 98])
    # Nothing is known of the file: nothing is claimed.
    digest = hashlib.sha256(b'ab').hexdigest()
    assert converted.verdict.startswith(f'sha256 {digest}; none is published of iresnet100.bin')
    assert '--network=iresnet50 --input=iresnet50.bin' in convert.instructions('iresnet50')


def test_mistakes_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no\.pth: no such file; want vgg19-dcbb9e9d\.pth from torchvision'):
        convert.convert('vgg19', tmp_path / 'no.pth')
    with pytest.raises(ValueError, match='--network=vgg91: unknown; want one of vgg19'):
        convert.convert('vgg91', LAYOUT)
    with pytest.raises(ValueError, match=r'features\.0\.weight has the shape'):
        convert.convert('vgg19', GOLDEN / 'vgg19_narrow_zip.pth')
    with pytest.raises(ValueError, match=r"dtypes_zip\.pth holds no tensor 'features\.0\.weight'"):
        convert.convert('vgg19', GOLDEN / 'dtypes_zip.pth')
    with pytest.raises(ValueError, match=r'assets_test\.py is not a whole PyTorch weight file'):
        convert.convert('vgg19', __file__)
    assert not folder.exists()


@pytest.mark.parametrize('network', convert.NETWORKS)
def test_every_network_says_where_it_comes_from(network):
    of = convert.published(network)
    sentence = convert.instructions(network)
    for part in (of.file, 'https://', f'--mode=convert --network={network} --input={of.file}'):
        assert part in sentence
    readme = (pathlib.Path(convert.__file__).parent / convert.NETWORKS[network] / 'README.md').read_text()
    assert of.file in readme
    assert of.sha256 in readme
    assert 'icence' in readme
