"""Gradient checkpointing changes memory only: same parameters, values and gradients, and more arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax.models.generator import Generator, Source
from talkinghead_jax.nn import remat
from talkinghead_jax.nn.initialization import initialize

K, SIZE = 2, 8

pytestmark = pytest.mark.usefixtures('quick_compilation')


@pytest.fixture(scope='module')
def inputs():
    keys = iter(jax.random.split(jax.random.key(0), 12))

    def draw(*shape):
        return jax.random.uniform(next(keys), shape, minval=-1)

    sources = {name: Source(*[draw(1, SIZE, SIZE, channels) for channels in channels_of(Source)])
               for name in ('matched', 'render')}
    return (draw(1, K, SIZE, SIZE, 3), draw(1, K, SIZE, SIZE, 1), jnp.ones((1, K), bool), draw(1, SIZE, SIZE, 1),
            sources)


def channels_of(source):
    return [{'image': 3, 'known': 1, 'sketch': 1, 'prior': 2}[field] for field in source._fields]


def make(mode):
    return Generator(2, 4, 3, 1, 1, remat=mode)


def loss_of(mode, inputs):
    """The mean square of image and flows, as a function of the parameters."""
    def loss(params):
        image, warped = make(mode).apply({'params': params}, *inputs)
        return jnp.square(image).mean() + sum(jnp.square(w.flow).mean() for w in warped.values())
    return loss


@pytest.fixture(scope='module')
def plain(inputs):
    """Random parameters (the initializers take long to compile), loss and gradients without checkpointing."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: initialize(make(''), key, *inputs), jax.random.key(1))['params']
    params = jax.tree.map(lambda x: rng.normal(scale=max(1, np.prod(x.shape[:-1])) ** -0.5, size=x.shape).astype(
        x.dtype), shapes)
    return params, *jax.jit(jax.value_and_grad(loss_of('', inputs)))(params)


@pytest.mark.parametrize('mode', remat.MODES[1:])
def test_parameters_values_and_gradients_are_equal(mode, plain, inputs):
    params, value, gradients = plain
    shapes = jax.eval_shape(lambda key: initialize(make(mode), key, *inputs), jax.random.key(1))['params']
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, params)
    got, found = jax.jit(jax.value_and_grad(loss_of(mode, inputs)))(params)
    np.testing.assert_allclose(got, value, rtol=1e-6)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients))
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * largest, rtol=1e-4, err_msg=jax.tree_util.keystr(path))


def convolutions(jaxpr):
    """How often a jaxpr convolves, in itself and in what it calls."""
    inner = [x for eqn in jaxpr.eqns for x in jax.tree.leaves(list(eqn.params.values())) if hasattr(x, 'jaxpr')]
    inner += [x for eqn in jaxpr.eqns for x in eqn.params.values() if hasattr(x, 'eqns')]
    own = sum(eqn.primitive.name == 'conv_general_dilated' for eqn in jaxpr.eqns)
    return own + sum(convolutions(getattr(x, 'jaxpr', x)) for x in inner)


def test_light_repeats_no_convolution_and_full_repeats_them(plain, inputs):
    count = {mode: convolutions(jax.make_jaxpr(jax.grad(loss_of(mode, inputs)))(plain[0]).jaxpr)
             for mode in remat.MODES}
    assert count['light'] == count[''] < count['full']
