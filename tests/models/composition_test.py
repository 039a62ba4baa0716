"""The guidance embeddings and the decoder of parallel SPADEs, against loops (paper, Sec. 4.3, Fig. 6)."""

import jax
import jax.numpy as jnp
import naive_layers as naive
import numpy as np
import pytest

from talkinghead_jax.models import composition
from talkinghead_jax.models.embedding import LevelWeights
from talkinghead_jax.nn.initialization import initialize

WIDTHS = (2, 3, 4)
SIZE = 8


def as_float32(*arrays):
    return [jnp.asarray(a, jnp.float32) for a in arrays]


def level_weights(rng):
    return [LevelWeights(*(0.5 * x for x in as_float32(rng.normal(size=(2, 2, 2, c, c + 1)),
                                                       rng.normal(size=(2, c, c + 1))))) for c in WIDTHS]


def maps(rng, extra=0):
    return as_float32(*(rng.normal(size=(2, SIZE >> i, SIZE >> i, c + extra)) for i, c in enumerate(WIDTHS)))


def randomly(module, *inputs):
    """A module's random parameters."""
    return naive.randomized(jax.jit(lambda key: initialize(module, key, *inputs))(jax.random.key(0)))['params']


def naive_pyramid(x, params, keep_image):
    features, image = [], x
    for level in range(len(WIDTHS)):
        x = naive.leaky_relu(naive.conv(x, params[f'Conv_{level}'], 2 if level else 1))
        if level:
            image = image.reshape(len(image) // 2, 2, len(image) // 2, 2, -1).mean((1, 3))
        features.append(np.concatenate([x, image], -1) if keep_image else x)
    return features


@pytest.mark.parametrize('keep_image', [False, True])
def test_pyramid_against_loops(keep_image):
    image = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3))
    module = composition.Pyramid(WIDTHS, keep_image)
    params = randomly(module, *as_float32(image))
    got = module.apply({'params': params}, *as_float32(image))
    for b in range(2):
        for ours, want in zip(got, naive_pyramid(image[b], params, keep_image), strict=True):
            np.testing.assert_allclose(ours[b], want, atol=1e-4)


def test_landmark_embedding_ends_in_generated_convolutions():
    """At each level the static features, and what comes from below, go through this example's theta_S."""
    rng = np.random.default_rng(1)
    sketch, weights = rng.uniform(0, 1, (2, SIZE, SIZE, 1)), level_weights(rng)
    module = composition.LandmarkEmbedding(WIDTHS)
    params = randomly(module, *as_float32(sketch), weights)
    got = module.apply({'params': params}, *as_float32(sketch), weights)
    for b in range(2):
        static, above = naive_pyramid(sketch[b], params['Pyramid_0'], False), None
        for i, level in enumerate(reversed(range(len(WIDTHS)))):
            x = static[level]
            if above is not None:
                x = x + np.kron(naive.conv(above, params[f'Conv_{i - 1}']), np.ones((2, 2, 1)))
            above = naive.leaky_relu(naive.generated_conv(x, np.asarray(weights[level].embed[b])))
            np.testing.assert_allclose(got[level][b], above, atol=2e-4)


def spade_sum(x, landmark, theta, guides, params):
    """Three SPADE blocks, each norm(x) (1 + gamma) + beta with its own guidance, summed; one example."""
    channels = x.shape[-1]
    total = naive.instance_norm(x) * (1 + naive.generated_conv(landmark, theta[0]))
    total = total + naive.generated_conv(landmark, theta[1])
    kernel, start = np.asarray(params['Conv_0']['kernel']), 0
    for i, guide in enumerate(guides):
        part = {'kernel': kernel[:, :, start:start + guide.shape[-1]]}
        start += guide.shape[-1]
        both = naive.conv(guide, part) + (np.asarray(params['Conv_0']['bias']) if i == 0 else 0)
        total = total + naive.instance_norm(x) * (1 + both[..., :channels]) + both[..., channels:]
    return total


def upsample(x, params):
    """3 x 3 convolution to four subpixels a pixel."""
    x = naive.conv(x, params['subpixels'])
    height, width, channels = x.shape
    return x.reshape(height, width, 2, 2, channels // 4).transpose(0, 2, 1, 3, 4).reshape(2 * height, 2 * width, -1)


@pytest.fixture(scope='module')
def decoded():
    """(decoder's parameters, inputs): two pyramids of guidance."""
    rng = np.random.default_rng(2)
    inputs = (*as_float32(rng.normal(size=(2, SIZE >> 2, SIZE >> 2, WIDTHS[-1]))), maps(rng), level_weights(rng),
              [maps(rng, 3), maps(rng, 1)])
    return randomly(composition.Decoder(WIDTHS), *inputs), inputs


def test_decoder_against_loops(decoded):
    params, inputs = decoded
    got = jax.jit(composition.Decoder(WIDTHS).apply)({'params': params}, *inputs)
    for b in range(2):
        x, landmark, weights, pyramids = jax.tree.map(lambda a, b=b: np.asarray(a[b], np.float64), inputs)
        for level in reversed(range(len(WIDTHS))):
            layer, theta = params[f'layer{level}'], weights[level].spade
            guides = [pyramid[level] for pyramid in pyramids]
            hidden = naive.leaky_relu(spade_sum(x, landmark[level], theta[0], guides, layer['spade_0']))
            x = x + naive.conv(hidden, layer['conv'])
            x = spade_sum(x, landmark[level], theta[1], guides, layer['spade_1'])
            if level:
                x = upsample(naive.leaky_relu(x), layer['upsample'])
        np.testing.assert_allclose(got[b], np.tanh(naive.conv(x, params['image'])), atol=1e-3)
