"""The converted PRNet computes what TensorFlow computes with the same checkpoint, and fits the published size."""

import builtins
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax.models.unprojection import DEPTH_OFFSET, POSITION_RANGE, UnprojectionNet
from third_party import assets
from third_party import convert as conversion
from third_party.prnet import convert

tf = pytest.importorskip('tensorflow')
NORM = ['beta', 'gamma', 'moving_mean', 'moving_variance']


class Published:
    """The published definition, written down a second time with TensorFlow's own layers; makes or reads weights."""

    def __init__(self, rng=None, weights=None):
        self.rng, self.weights, self.counts = rng, dict(weights or {}), {}

    def scope(self, parent, kind):
        number = self.counts[parent, kind] = self.counts.get((parent, kind), -1) + 1
        return f'{parent}/{kind}' + (f'_{number}' if number else '')

    def get(self, name, *shape):
        if name not in self.weights:
            kind = name.rsplit('/', 1)[1]
            draw = {'weights': lambda: self.rng.normal(0, (2 / np.prod(shape[:3])) ** 0.5, shape),
                    'gamma': lambda: self.rng.uniform(0.7, 1.5, shape),
                    'moving_variance': lambda: self.rng.uniform(0.01, 1.0, shape)}
            value = draw.get(kind, lambda: self.rng.normal(0, 0.3, shape))()
            self.weights[name] = value.astype(np.float32)
        return self.weights[name]

    def norm(self, x, scope):
        beta, gamma, mean, variance = (self.get(f'{scope}/BatchNorm/{kind}', x.shape[-1]) for kind in NORM)
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 0.001)

    def conv(self, x, outputs, size, stride, scope, plain=False):
        kernel = self.get(f'{scope}/weights', size, size, x.shape[-1], outputs)
        x = tf.nn.conv2d(x, kernel, stride, 'SAME')
        return x if plain else tf.nn.relu(self.norm(x, scope))

    def transposed(self, x, outputs, stride, activation=tf.nn.relu):
        scope = self.scope('resfcn256', 'Conv2d_transpose')
        kernel = self.get(f'{scope}/weights', 4, 4, outputs, x.shape[-1])
        shape = (x.shape[0], x.shape[1] * stride, x.shape[2] * stride, outputs)
        return activation(self.norm(tf.nn.conv2d_transpose(x, kernel, shape, stride, 'SAME'), scope))

    def block(self, x, outputs, stride):
        scope = self.scope('resfcn256', 'resBlock')
        shortcut = x
        if stride != 1 or x.shape[-1] != outputs:
            shortcut = self.conv(x, outputs, 1, stride, f'{scope}/shortcut', plain=True)
        x = self.conv(x, outputs // 2, 1, 1, f'{scope}/Conv')
        x = self.conv(x, outputs // 2, 4, stride, f'{scope}/Conv_1')
        x = self.conv(x, outputs, 1, 1, f'{scope}/Conv_2', plain=True)
        return tf.nn.relu(self.norm(x + shortcut, scope))

    def __call__(self, image, width):
        """(B, 256, 256, 3) in [0, 1] -> the same, in [0, 1]."""
        x = self.conv(tf.constant(image), width, 4, 1, self.scope('resfcn256', 'Conv'))
        for times in (2, 4, 8, 16, 32):
            x = self.block(self.block(x, times * width, 2), times * width, 1)
        x = self.transposed(x, 32 * width, 1)
        for times, strides in ((16, (2, 1, 1)), (8, (2, 1, 1)), (4, (2, 1, 1)), (2, (2, 1)), (1, (2, 1))):
            for stride in strides:
                x = self.transposed(x, times * width, stride)
        x = self.transposed(self.transposed(x, 3, 1), 3, 1)
        return self.transposed(x, 3, 1, tf.nn.sigmoid).numpy()


@pytest.fixture(scope='module')
def image():
    return np.random.default_rng(1).uniform(0, 1, (1, 256, 256, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def network(image):
    """The published network of width 1 with random weights, and what it computes."""
    network = Published(np.random.default_rng(0))
    return network, network(image, 1)


@pytest.fixture(scope='module')
def checkpoint(network, tmp_path_factory):
    """As the authors' trainer saved it, with what Adam kept."""
    weights = network[0].weights
    more = {'beta1_power': np.float32(0.5), f'{next(iter(weights))}/Adam': np.zeros(3, np.float32)}
    saved = {**weights, **more}
    path = tmp_path_factory.mktemp('checkpoint') / convert.PUBLISHED.file
    tf.raw_ops.SaveV2(prefix=str(path).removesuffix('.data-00000-of-00001'), tensor_names=list(saved),
                      shape_and_slices=[''] * len(saved), tensors=list(saved.values()))
    return path


def test_the_converted_network_is_the_published_one(network, checkpoint, image, quick_compilation):
    variables = convert.convert(convert.read(checkpoint), width=1)
    net = UnprojectionNet(width=1, residual=False)
    found = jax.jit(net.apply)(variables, 2 * image - 1, jnp.zeros((256, 256, 3)))
    expected = network[1]
    assert expected.std(axis=(1, 2)).min() > 0.02  # neither saturated nor dead
    np.testing.assert_allclose(found[..., :2] / POSITION_RANGE, expected[..., :2], atol=1e-4)
    np.testing.assert_allclose((found[..., 2] - DEPTH_OFFSET) / POSITION_RANGE, expected[..., 2], atol=1e-4)


def test_the_tensors_are_those_of_the_network_and_of_the_published_size():
    net = UnprojectionNet(width=16, residual=False)
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    abstract = jax.eval_shape(net.init, jax.random.key(0), image, jax.ShapeDtypeStruct((256, 256, 3), jnp.float32))
    zeros = {name: np.broadcast_to(np.float32(0), shape) for name, _, shape in convert.tensors()}
    assert jax.tree.map(np.shape, convert.convert(zeros)) == jax.tree.map(np.shape, abstract)
    trained, counted = (sum(x.size for x in jax.tree.leaves(abstract[kind])) for kind in ('params', 'batch_stats'))
    assert 4 * (3 * trained + counted + 2) == 160_290_984  # bytes: with Adam's moments and its two powers


def test_it_is_saved_and_read_again(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(tmp_path))
    monkeypatch.setattr(convert, 'convert', functools.partial(convert.convert, width=1))
    converted = conversion.convert('prnet', checkpoint)
    assert 'not that of a copy in a third repository' in converted.verdict  # reported, not refused
    read = assets.read(converted.path)
    np.testing.assert_array_equal(read['params']['up4_1']['kernel'],
                                  convert.read(checkpoint)['resfcn256/Conv2d_transpose_2/weights'])


def test_mistakes_are_named(checkpoint, tmp_path, monkeypatch):
    tensors = convert.read(checkpoint)
    with pytest.raises(ValueError, match=r'resfcn256/Conv/weights has the shape \(4, 4, 3, 1\); PRNet wants .* 16\)'):
        convert.convert(tensors)
    del tensors['resfcn256/resBlock_7/BatchNorm/gamma']
    with pytest.raises(KeyError, match='resfcn256/resBlock_7/BatchNorm/gamma'):
        convert.convert(tensors, width=1)
    with pytest.raises(ValueError, match=r'elsewhere\.npz is not the data of a TensorFlow checkpoint'):
        convert.read(tmp_path / 'elsewhere.npz')
    lonely = tmp_path / checkpoint.name
    lonely.write_bytes(b'')
    with pytest.raises(ValueError, match=r'is half a checkpoint; want .*256_256_resfcn256_weight\.index'):
        convert.read(lonely)
    (tmp_path / '256_256_resfcn256_weight.index').write_bytes(b'no index')
    with pytest.raises(ValueError, match='is not a whole TensorFlow checkpoint'):
        convert.read(lonely)
    importing = builtins.__import__

    def without(name, *arguments):
        if name == 'tensorflow':
            raise ImportError('No module named tensorflow')
        return importing(name, *arguments)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ValueError, match='TensorFlow is not installed'):
        convert.read(checkpoint)
