"""Theta's losses on random arrays against loops over examples, scales, layers and pixels (paper, Eq. 8)."""

import jax.numpy as jnp
import numpy as np

from talkinghead_jax.losses import flow, gan, image

RNG = np.random.default_rng(0)


def float32(tree):
    return [float32(x) for x in tree] if isinstance(tree, list) else jnp.asarray(tree, jnp.float32)


def score_maps():
    """Two scales of scores of three examples, some of them beyond the hinge."""
    return [2 * RNG.normal(size=(3, 4, 5, 1)), 2 * RNG.normal(size=(3, 2, 3, 1))]


def test_hinges_against_loops():
    real, fake = score_maps(), score_maps()
    for b in range(3):
        discriminator = generator = 0.0
        for reals, fakes in zip(real, fake, strict=True):
            patches = [(float(r), float(f)) for r, f in zip(reals[b].ravel(), fakes[b].ravel(), strict=True)]
            discriminator += sum(max(0, 1 - r) + max(0, 1 + f) for r, f in patches) / len(patches)
            generator -= sum(f for _, f in patches) / len(patches)
        np.testing.assert_allclose(gan.discriminator_hinge(float32(real), float32(fake))[b], discriminator, rtol=1e-5)
        np.testing.assert_allclose(gan.generator_hinge(float32(fake))[b], generator, rtol=1e-4, atol=1e-6)


def test_feature_matching_against_loops():
    shapes = [[(3, 4, 4, 2), (3, 2, 2, 5)], [(3, 2, 2, 2), (3, 1, 1, 5)]]
    real, fake = ([[RNG.normal(size=shape) for shape in scale] for scale in shapes] for _ in range(2))
    got = gan.feature_matching(float32(real), float32(fake))
    for b in range(3):
        want = 0.0
        for scale in range(2):
            for layer in range(2):
                pairs = list(zip(real[scale][layer][b].ravel(), fake[scale][layer][b].ravel(), strict=True))
                want += sum(abs(r - f) for r, f in pairs) / len(pairs)
        np.testing.assert_allclose(got[b], want, rtol=1e-5)


def test_weighted_l1_against_loops():
    a, b, weight = RNG.normal(size=(2, 3, 4, 3)), RNG.normal(size=(2, 3, 4, 3)), RNG.uniform(0, 2, (2, 3, 4))
    got = image.l1(*float32([a, b, weight]))
    for i in range(2):
        total = sum(weight[i, y, x] * sum(abs(a[i, y, x, c] - b[i, y, x, c]) for c in range(3)) / 3
                    for y in range(3) for x in range(4))
        np.testing.assert_allclose(got[i], total / weight[i].sum(), rtol=1e-5)


def test_mesh_flow_against_loops():
    predicted, mesh = RNG.normal(size=(2, 4, 3, 2)), RNG.normal(size=(2, 4, 3, 2))
    weight = RNG.uniform(0, 1, (2, 4, 3)) * RNG.integers(0, 2, (2, 4, 3))
    got = flow.mesh_flow(*float32([predicted, mesh, weight]))
    for b in range(2):
        total = sum(weight[b, y, x] * abs(predicted[b, y, x] - mesh[b, y, x]).sum()
                    for y in range(4) for x in range(3))
        np.testing.assert_allclose(got[b], total / max(weight[b].sum(), 1), rtol=1e-5)


def test_landmark_flow_against_loops():
    height, width = 6, 8
    field, target = RNG.normal(size=(2, height, width, 2)), RNG.uniform(-1, 8, (2, 68, 2))
    source = target + RNG.normal(size=(2, 68, 2))
    got = flow.landmark_flow(*float32([field, target, source]))
    for b in range(2):
        errors = []
        for (x, y), wanted in zip(target[b], source[b] - target[b], strict=True):
            if 0 <= x <= width - 1 and 0 <= y <= height - 1:
                here = sum(max(0, 1 - abs(x - u)) * max(0, 1 - abs(y - v)) * field[b, v, u]
                           for v in range(height) for u in range(width))
                errors.append(abs(here - wanted).sum())
        assert 20 < len(errors) < 68
        np.testing.assert_allclose(got[b], sum(errors) / len(errors), rtol=1e-4)
