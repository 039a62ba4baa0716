"""SyncNet computes what PyTorch computed (recorded), MFCC are python_speech_features', and all tensors are found."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from patterns import film

from third_party.syncnet import convert
from third_party.syncnet.mfcc import mfcc
from third_party.syncnet.network import WIDTHS, Stream

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'syncnet_narrow.npz'
# Numbers in the published file, 54,573,114 bytes long: six convolutions and a dense layer, each with a normalisation
# of five numbers a channel and a bias, and a dense layer.
_KERNELS = {'lip': (3 * 245, 96 * 25, 256 * 9, 256 * 9, 256 * 9, 256 * 36, 512),
            'aud': (9, 64 * 9, 192 * 9, 384 * 9, 256 * 9, 256 * 20, 512)}


@pytest.fixture(scope='module')
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope='module')
def tensors(golden):
    return {name.removeprefix('tensors/'): golden[name] for name in golden if name.startswith('tensors/')}


@pytest.mark.usefixtures('quick_compilation')
def test_embeddings_are_those_of_pytorch(golden, tensors):
    params = convert.convert(tensors, {'lip': golden['lip'], 'aud': golden['aud']})
    frames = film(7)[..., ::-1].astype(np.float32)
    steps = golden['mfcc'].T.astype(np.float32)
    inputs = {'lip': np.stack([frames[i:i + 5] for i in range(3)]),
              'aud': np.stack([steps[:, 4 * i:4 * i + 20] for i in range(2)])}
    for stream, recorded in (('lip', golden['films']), ('aud', golden['sounds'])):
        network = Stream.of(stream, params[stream])
        assert network.widths == tuple(golden[stream])
        found = jax.jit(network.apply)({'params': params[stream]}, inputs[stream])
        np.testing.assert_allclose(found, recorded, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('stream', WIDTHS)
def test_the_published_shapes_are_those_of_the_network(stream):
    sample = jax.ShapeDtypeStruct((1, 5, 224, 224, 3) if stream == 'lip' else (1, 13, 20), jnp.float32)
    network = Stream(stream, WIDTHS[stream])
    found, abstract = jax.eval_shape(network.init_with_output, jax.random.key(0), sample)
    assert found.shape == (1, 1024)
    count = sum(width * (fan + 1) for width, fan in zip(WIDTHS[stream][:-1], _KERNELS[stream], strict=True))
    assert sum(x.size for x in jax.tree.leaves(abstract)) == count + 1024 * 513


def test_the_published_file_has_room_for_these_tensors_and_no_more():
    numbers = 0
    for stream, widths in WIDTHS.items():
        numbers += sum(width * (fan + 5) for width, fan in zip(widths[:-1], _KERNELS[stream], strict=True))
        numbers += 1024 * 513
    assert 0 < 54_573_114 - 4 * numbers < 20_000  # the rest: names and counters


def test_mfcc_are_those_of_python_speech_features(golden):
    np.testing.assert_allclose(mfcc(golden['audio']), golden['mfcc'], atol=1e-4, rtol=0)
    np.testing.assert_allclose(mfcc(golden['audio'][-300:]), golden['short'], atol=1e-4, rtol=0)
    assert mfcc(golden['audio'])[11, 0] == np.log(np.finfo(float).eps)  # 110 to 135 ms: digital silence
    with pytest.raises(ValueError, match='without samples'):
        mfcc(golden['audio'][:0])


def test_long_sound_in_parts_is_as_in_one(golden):
    audio = np.tile(golden['audio'], 150)  # 42 s: 4199 windows, more than one part
    found = mfcc(audio)
    assert found.shape == (4199, 13)
    start = 28 * 140  # the sound repeats every 28 windows
    np.testing.assert_allclose(found[start + 1:start + 200], found[1:200], atol=1e-9)


def test_wrong_shapes_and_missing_tensors_are_named(golden, tensors):
    with pytest.raises(ValueError, match=r'netcnnlip\.0\.weight .* \(4, 3, 5, 7, 7\); .*\(96, 3, 5, 7, 7\)'):
        convert.convert(tensors)
    lacking = {name: value for name, value in tensors.items() if name != 'netfcaud.1.running_var'}
    with pytest.raises(KeyError, match=r'netfcaud\.1\.running_var'):
        convert.convert(lacking, {'lip': golden['lip'], 'aud': golden['aud']})
