"""The discriminators: shapes at full size, values at tiny size against loops, and that images do not mix."""

import jax
import jax.numpy as jnp
import naive_layers as naive
import numpy as np
import pytest

from talkinghead_jax.models import discriminator
from talkinghead_jax.nn.initialization import initialize


def test_shapes_at_256_px():
    """The original's sizes (129, 65, 33, 17, 18, 19) at scale one, half of the image at scale two."""
    module = discriminator.MultiScaleDiscriminator(32, 512, 4)
    condition, image = (jax.ShapeDtypeStruct((2, 256, 256, c), 'float32') for c in (5, 3))

    def run(condition, image):
        return module.apply(initialize(module, jax.random.key(0), condition, image, image), condition, image, image)

    for scales in jax.eval_shape(run, condition, image):
        assert [[f.shape[1:] for f in features] for features in scales] == [
            [(129, 129, 32), (65, 65, 64), (33, 33, 128), (17, 17, 256), (18, 18, 512), (19, 19, 1)],
            [(65, 65, 32), (33, 33, 64), (17, 17, 128), (9, 9, 256), (10, 10, 512), (11, 11, 1)]]


def spectral_conv(x, params, stride):
    """Divided by the largest singular value; padding 2."""
    kernel = np.asarray(params['kernel'], np.float64)
    sigma = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
    return naive.conv(x, {**params, 'kernel': kernel / sigma}, stride, padding=2)


def naive_features(x, params, strides):
    """One image through one scale: every layer's features."""
    features = []
    for i, stride in enumerate(strides):
        x = spectral_conv(x, params[f'SpectralConv_{i}'], stride)
        if i < len(strides) - 1:
            if i and x.shape[0] * x.shape[1] > 16:
                x = naive.instance_norm(x)
            x = naive.leaky_relu(x)
        features.append(x)
    return features


@pytest.fixture(scope='module')
def judged():
    """(apply, variables with converged singular vectors, condition, real, fake)."""
    module = discriminator.MultiScaleDiscriminator(3, 4, 2)
    keys = jax.random.split(jax.random.key(0), 4)
    images = [jax.random.normal(key, (2, 16, 16, channels)) for key, channels in zip(keys, (2, 3, 3), strict=False)]
    variables = jax.jit(lambda key: initialize(module, key, *images))(keys[3])
    step = jax.jit(lambda v: module.apply(v, *images, mutable=['spectral'])[1])
    for _ in range(200):
        variables = {**variables, **step(variables)}
    return jax.jit(lambda *a: module.apply(variables, *a)), variables, *images


def test_features_against_loops(judged):
    apply, variables, condition, real, fake = judged
    for images, scales in zip((real, fake), apply(condition, real, fake), strict=True):
        assert len(scales) == 2
        for b in range(2):
            x = np.concatenate([condition[b], images[b]], -1).astype(np.float64)
            for scale, features in enumerate(scales):
                if scale:
                    x = x.reshape(8, 2, 8, 2, -1).mean((1, 3))
                want = naive_features(x, variables['params'][f'scale{scale}'], (2, 2, 1, 1))
                for ours, theirs in zip(features, want, strict=True):
                    np.testing.assert_allclose(ours[b], theirs, atol=2e-3)


def test_each_image_is_judged_by_itself(judged):
    apply, _, condition, real, fake = judged
    _, fake_features = apply(condition, real, fake)
    swapped_real, _ = apply(condition, fake, real)
    for a, b in zip(jax.tree.leaves(swapped_real), jax.tree.leaves(fake_features), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_single_patch_is_not_erased():
    """Instance statistics of few pixels would make all small maps alike."""
    module = discriminator.PatchDiscriminator(4, 8, 3)
    small, other = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 3))
    variables = initialize(module, jax.random.key(1), small)
    first, second = (module.apply(variables, x)[-1] for x in (small, other))
    assert not np.allclose(first, second, atol=1e-2)
    assert jnp.isfinite(first).all()
