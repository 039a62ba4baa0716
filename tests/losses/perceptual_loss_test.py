"""The perceptual loss against loops, finite differences, and what it must be at equal images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from talkinghead_jax.losses import perceptual
from third_party.vgg19.network import VGG19

WIDTHS = (3, 4, 4, 5, 6)


def draw(dtype=np.float32, size=20, batch=2):
    """(parameters of a narrow VGG19 with biases, image, target)."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(VGG19(WIDTHS).init, jax.random.key(0), jnp.zeros((1, size, size, 3)))['params']
    params = jax.tree.map(lambda x: rng.normal(0, (2 / max(np.prod(x.shape[:-1]), 9)) ** 0.5, x.shape).astype(dtype),
                          shapes)
    image, target = rng.uniform(-1, 1, (2, batch, size, size, 3)).astype(dtype)
    return params, image, target


def test_distance_is_the_weighted_mean_over_each_layer():
    rng = np.random.default_rng(1)
    shapes = [(2, 8, 8, 3), (2, 4, 4, 4), (2, 2, 2, 5), (2, 1, 1, 6), (2, 1, 1, 2)]
    a, b = ([rng.normal(size=shape).astype(np.float32) for shape in shapes] for _ in range(2))
    wanted = []
    for example in range(2):
        total = 0.0
        for weight, x, y in zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), a, b, strict=True):
            differences = [abs(float(p) - float(q)) for p, q in zip(x[example].flat, y[example].flat, strict=True)]
            total += weight * sum(differences) / len(differences)
        wanted.append(total)
    np.testing.assert_allclose(perceptual.feature_distance(a, b), wanted, rtol=1e-6)


def test_it_compares_the_features_of_both_images():
    params, image, target = draw()
    network = VGG19(WIDTHS)
    apply = jax.jit(network.apply)
    features, wanted = (apply({'params': params}, x) for x in (image, target))
    naive = sum(weight * np.abs(np.asarray(a, np.float64) - b).reshape(2, -1).mean(1)
                for weight, a, b in zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), features, wanted, strict=True))
    loss = perceptual.perceptual(image, target, params)
    assert loss.shape == (2,)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, naive, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(perceptual.perceptual)(image, target, params), loss, rtol=1e-5)


def test_equal_images_are_at_distance_zero():
    params, image, target = draw()
    mixed = np.stack([image[0], target[1]])
    loss = jax.jit(perceptual.perceptual)(mixed, target, params)
    assert loss[0] > 0.01
    np.testing.assert_allclose(loss[1], 0, atol=1e-6)  # the two passes may round differently


def test_bfloat16_adds_up_in_float32():
    params, image, target = draw()
    in_float32, in_bfloat16 = jax.jit(lambda: tuple(
        perceptual.perceptual(image, target, params, dtype) for dtype in (jnp.float32, jnp.bfloat16)))()
    assert in_bfloat16.dtype == jnp.float32
    assert (in_bfloat16 != in_float32).all()
    np.testing.assert_allclose(in_bfloat16, in_float32, rtol=0.05)


def test_gradient_is_that_of_finite_differences():
    with jax.enable_x64(True):
        params, image, target = draw(np.float64, size=16, batch=1)
        loss = jax.jit(lambda x: perceptual.perceptual(x, target, params, jnp.float64).sum())
        gradient = np.asarray(jax.grad(loss)(image))
        assert gradient.dtype == np.float64
        rng, step = np.random.default_rng(2), 1e-7
        for _ in range(12):
            direction = rng.normal(size=image.shape)
            slope = (loss(image + step * direction) - loss(image - step * direction)) / (2 * step)
            np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-5)


@pytest.mark.parametrize('case', ['random', 'equal', 'flat'])
def test_gradient_is_finite_and_spares_the_target(case):
    params, image, target = draw()
    if case == 'flat':
        image = np.zeros_like(image)
    if case == 'equal':
        image = target
    of_image, of_target = jax.jit(jax.grad(lambda x, y: perceptual.perceptual(x, y, params).sum(), (0, 1)))(
        image, target)
    assert np.isfinite(of_image).all()
    assert case == 'equal' or np.asarray(of_image).any()
    assert not np.asarray(of_target).any()


def test_eight_devices_send_each_other_nothing():
    params, image, target = draw(size=16, batch=8)
    mesh = Mesh(np.array(jax.devices()), ('data',))
    split, whole = NamedSharding(mesh, PartitionSpec('data')), NamedSharding(mesh, PartitionSpec())

    def gradient(params, image, target):
        return jax.grad(lambda x: perceptual.perceptual(x, target, params).sum())(image)

    compiled = jax.jit(gradient, in_shardings=(whole, split, split), out_shardings=split).lower(
        params, image, target).compile()
    for collective in ('all-reduce', 'all-gather', 'all-to-all', 'collective-permute', 'reduce-scatter'):
        assert f' {collective}' not in compiled.as_text()
