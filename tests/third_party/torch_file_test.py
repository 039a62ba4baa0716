"""Weight files are read as PyTorch reads them (recorded), and nothing in a file is ever run."""

import collections
import io
import os
import pathlib
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from third_party import torch_file

GOLDEN = pathlib.Path(__file__).parent / 'golden'
FORMATS = ('zip', 'legacy')


@pytest.mark.parametrize('form', FORMATS)
def test_every_dtype_view_and_nesting(form):
    found = torch_file.read(GOLDEN / f'dtypes_{form}.pth')
    with np.load(GOLDEN / 'dtypes.npz') as wanted:
        assert set(found) == set(wanted.files)
        for name in wanted.files:
            dtype = ml_dtypes.bfloat16 if name == 'bfloat16' else wanted[name].dtype
            assert found[name].dtype == dtype, name
            np.testing.assert_array_equal(found[name].astype(wanted[name].dtype), wanted[name], err_msg=name)
            assert found[name].shape == wanted[name].shape, name
            assert found[name].flags.owndata, name
            assert found[name].flags.writeable, name


def test_the_oldest_pickling_of_tensors_and_parameters():
    found = torch_file.read(GOLDEN / 'oldest.pth')
    assert list(found) == ['weight', 'bias']
    np.testing.assert_array_equal(found['weight'], np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(found['bias'], np.float32([10, 11]))


@pytest.mark.parametrize('name', ['alex', 'squeeze', 'vgg'])
def test_published_lpips_heads(name, shared_data):
    found = torch_file.read(shared_data / f'models/lpips_lin_v0.1_{name}.pth')
    with np.load(shared_data / 'models/lpips_lin_v0.1_all.npz') as decoded:  # read by another program
        wanted = {key: decoded[key] for key in decoded.files if key.startswith(name)}
        assert len(found) == len(wanted) >= 5
        for tensor, array in zip(found.values(), wanted.values(), strict=True):
            np.testing.assert_array_equal(tensor.ravel(), array.ravel())


@pytest.mark.parametrize('form', FORMATS)
def test_only_what_is_wanted_is_read(form):
    assert list(torch_file.read(GOLDEN / f'dtypes_{form}.pth', lambda name: 'row' in name)) == ['row']


class _Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def _zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('archive/data.pkl', content)
    return file.getvalue()


def _legacy(content):
    headers = (0x1950A86A20F9469CFC6C, 1001, {'little_endian': True})
    return b''.join(pickle.dumps(header, 2) for header in headers) + content + pickle.dumps([], 2)


@pytest.mark.parametrize('wrap', [_zipped, _legacy])
@pytest.mark.parametrize('hidden', [lambda attack: {'weight': attack}, lambda attack: [attack],
                                    lambda attack: collections.OrderedDict(a={'b': attack})])
def test_code_in_a_file_is_refused_unrun(tmp_path, wrap, hidden):
    path = tmp_path / 'weights.pth'
    path.write_bytes(wrap(pickle.dumps(hidden(_Attack(tmp_path / 'owned')), 2)))
    with pytest.raises(ValueError, match=r'weights\.pth .*mkdir, which is no tensor'):
        torch_file.read(path)
    assert not (tmp_path / 'owned').exists()


def test_a_pickle_alone_is_refused_unrun(tmp_path):
    path = tmp_path / 'weights.pth'
    path.write_bytes(pickle.dumps(_Attack(tmp_path / 'owned'), 2))
    with pytest.raises(ValueError, match='no tensor'):
        torch_file.read(path)
    assert not (tmp_path / 'owned').exists()


@pytest.mark.parametrize('stride', [(4, 1), (3, 5), (-3, 1), (1 << 40, 1)])
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, stride):
    """A (3, 4) tensor of ten numbers, with steps that lead beyond them or back."""
    tensor = torch_file._Tensor(torch_file._Storage('0', np.dtype('f4'), 10), 0, (3, 4), stride)
    with pytest.raises(ValueError, match=r'beyond its storage|a size of'):
        torch_file._materialize(tensor, lambda storage: np.zeros(10, np.float32))


@pytest.mark.parametrize(('content', 'word'), [
    (b'', 'not a whole'), (b'Dear weights, ' * 9, 'not a whole'), (_zipped(pickle.dumps([1], 2)), 'holds a list'),
    (pickle.dumps({'a': 1}, 2), 'does not begin as one')])
def test_other_files_are_refused(tmp_path, content, word):
    path = tmp_path / 'weights.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf'weights\.pth .*{word}'):
        torch_file.read(path)


@pytest.mark.parametrize('form', FORMATS)
def test_damaged_files_end_in_one_kind_of_error(tmp_path, form):
    whole = (GOLDEN / f'dtypes_{form}.pth').read_bytes()
    path, rng, refused = tmp_path / 'weights.pth', np.random.default_rng(0), 0
    for length in range(0, len(whole) - 1, 61):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r'weights\.pth'):
            torch_file.read(path)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            torch_file.read(path)
        except ValueError:
            refused += 1
    assert refused > 20  # the rest hit a number, a name or padding


def test_a_missing_file_is_an_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        torch_file.read(tmp_path / 'no.pth')
