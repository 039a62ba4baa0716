"""The hybrid embedding against naive NumPy versions of Equations 3 to 7, and what it must be invariant to."""

import jax
import jax.numpy as jnp
import naive_layers as naive
import numpy as np
import pytest

from talkinghead_jax.models import embedding
from talkinghead_jax.nn.initialization import initialize

WIDTHS = (4, 4, 8, 6)
MASKS = np.array([[True, True, True], [True, False, True]])


def as_float32(*arrays):
    return [jnp.asarray(a, jnp.float32) for a in arrays]


def equation_3(references, target, mask):
    """(K,h,w,C), (h,w,C), (K,) -> (K,h,w): softmax over valid k of the product summed over channels."""
    alpha = np.zeros(references.shape[:3])
    for row in range(target.shape[0]):
        for column in range(target.shape[1]):
            energy = {k: sum(references[k, row, column] * target[row, column]) for k in np.flatnonzero(mask)}
            highest = max(energy.values())
            total = sum(np.exp(e - highest) for e in energy.values())
            for k, e in energy.items():
                alpha[k, row, column] = np.exp(e - highest) / total
    return alpha


def equation_6(alpha, refined, gated, mask):
    """Attended references summed, plus the mean of the gated ones: (h,w,C)."""
    out = np.zeros(refined.shape[1:])
    for k in np.flatnonzero(mask):
        out += alpha[k][..., None] * refined[k] + gated[k] / mask.sum()
    return out


def equation_7(landmark, image):
    """(h,w,C) twice -> (C,C): the landmark's shares of the channels times the image's channels, summed over space."""
    out = np.zeros((landmark.shape[-1],) * 2)
    for row in range(landmark.shape[0]):
        for column in range(landmark.shape[1]):
            out += np.outer(naive.softmax(landmark[row, column]), image[row, column])
    return out


def conv_gate(q, params):
    both = naive.conv(q, params['Conv_0'])
    value, gate = both[..., :both.shape[-1] // 2], both[..., both.shape[-1] // 2:]
    return naive.leaky_relu(value) * naive.sigmoid(gate)


def trunk(x, params):
    for i, stride in enumerate((1, 2, 2)):
        x = naive.conv_norm(x, params[f'ConvNorm_{i}'], stride)
    return x


def naive_embedding(params, images, sketches, target, mask):
    """One example through E_A, E_I, E_L and E_F: e_y, (spade, embed) of each level, alpha."""
    q = {'image': np.stack([trunk(x, params['image_trunk']) for x in images]),
         'landmark': np.stack([trunk(x, params['landmark_trunk']) for x in sketches])}
    keys = np.stack([trunk(x, params['activation']) for x in sketches])
    alpha = equation_3(keys, trunk(target, params['activation']), mask)
    shared = [naive.residual_block(np.concatenate(pair, -1), params['exchange'])
              for pair in zip(q['image'], q['landmark'], strict=True)]
    e = {}
    for name, originals in q.items():
        refined = [naive.conv_norm(np.concatenate(pair, -1), params[f'{name}_bottleneck'])
                   for pair in zip(originals, shared, strict=True)]
        gated = [conv_gate(x, params[f'{name}_gate']) for x in originals]
        e[name] = equation_6(alpha, np.stack(refined), np.stack(gated), mask)
        for level in range(3, len(WIDTHS)):
            e[name] = naive.conv_norm(e[name], params[f'{name}_encoder{level}'], 2)
    e_y, weights = e['image'], {}
    for level in reversed(range(len(WIDTHS))):
        for name in e:
            e[name] = naive.conv_norm(e[name], params[f'fusion_{name}{level}'])
        kernels = naive.row_mlp(equation_7(e['landmark'], e['image']), params[f'fusion_mlp{level}'], 5)
        weights[level] = kernels[:4].reshape(2, 2, *kernels.shape[1:]), kernels[4]
    return e_y, weights, alpha


@pytest.fixture(scope='module')
def embedded():
    """A hybrid embedding, its random variables and inputs with K = 3, one of them masked in the second example."""
    rng = np.random.default_rng(4)
    images, = as_float32(rng.uniform(-1, 1, (2, 3, 16, 16, 3)))
    sketches, target = as_float32(rng.uniform(0, 1, (2, 3, 16, 16, 1)), rng.uniform(0, 1, (2, 16, 16, 1)))
    module, mask = embedding.HybridEmbedding(WIDTHS), jnp.asarray(MASKS)
    variables = naive.randomized(
        jax.jit(lambda key: initialize(module, key, images, sketches, target, mask))(jax.random.key(0)))
    return jax.jit(lambda *a: module.apply(variables, *a)), variables['params'], (images, sketches, target, mask)


def outputs(result):
    e_y, weights, _ = result
    return [e_y, *(a for level in weights for a in (level.spade, level.embed))]


def test_equation_3_attention():
    rng = np.random.default_rng(1)
    references, target = rng.normal(size=(2, 3, 2, 2, 4)), rng.normal(size=(2, 2, 2, 4))
    got = np.asarray(embedding.attention(*as_float32(references, target), jnp.asarray(MASKS)))
    np.testing.assert_allclose(got, [equation_3(*x) for x in zip(references, target, MASKS, strict=True)], atol=1e-5)
    assert (got[1, 1] == 0).all()


def test_equation_6_combination():
    rng = np.random.default_rng(2)
    alpha = naive.softmax(rng.normal(size=(2, 3, 2, 2)), 1)
    alpha[1, 1] = 0
    refined, gated = rng.normal(size=(2, 3, 2, 2, 4)), rng.normal(size=(2, 3, 2, 2, 4))
    want = [equation_6(*x) for x in zip(alpha, refined, gated, MASKS, strict=True)]
    got = embedding.combine(*as_float32(alpha, refined, gated), jnp.asarray(MASKS))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_conv_gate_against_loops():
    q = np.random.default_rng(3).normal(size=(2, 5, 4, 3))
    module = embedding.ConvGate(2)
    variables = naive.randomized(initialize(module, jax.random.key(0), *as_float32(q)))
    want = [conv_gate(x, variables['params']) for x in q]
    np.testing.assert_allclose(module.apply(variables, *as_float32(q)), want, atol=1e-4)


def test_equation_7_matrix_has_output_channels_as_rows():
    rng = np.random.default_rng(3)
    landmark, image = rng.normal(size=(2, 3, 2, 4)), rng.normal(size=(2, 3, 2, 4))
    want = [equation_7(*x) for x in zip(landmark, image, strict=True)]
    np.testing.assert_allclose(embedding.fuse(*as_float32(landmark, image)), want, atol=1e-5)


def test_whole_embedding_against_loops(embedded):
    apply, params, inputs = embedded
    got = apply(*inputs)
    for b in range(2):
        e_y, weights, alpha = naive_embedding(params, *(np.asarray(x[b], np.float64) for x in inputs[:3]), MASKS[b])
        np.testing.assert_allclose(got[0][b], e_y, atol=2e-4)
        np.testing.assert_allclose(got[2][b], alpha, atol=2e-4)
        for level, (spade, embed) in weights.items():
            np.testing.assert_allclose(got[1][level].spade[b], spade, atol=1e-3)
            np.testing.assert_allclose(got[1][level].embed[b], embed, atol=1e-3)


def test_one_set_of_weights_a_level(embedded):
    apply, _, inputs = embedded
    e_y, weights, _ = apply(*inputs)
    assert e_y.shape == (2, 2, 2, 6)
    assert [level.spade.shape for level in weights] == [(2, 2, 2, c, c + 1) for c in WIDTHS]
    assert [level.embed.shape for level in weights] == [(2, c, c + 1) for c in WIDTHS]


def test_order_of_references_does_not_matter(embedded):
    apply, _, (images, sketches, target, mask) = embedded
    order = np.array([2, 0, 1])
    for a, b in zip(outputs(apply(images, sketches, target, mask)),
                    outputs(apply(images[:, order], sketches[:, order], target, mask[:, order])), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_without_hybrid_references_are_averaged(embedded):
    _, _, (images, sketches, target, mask) = embedded
    module = embedding.HybridEmbedding(WIDTHS, hybrid=False)
    variables = naive.randomized(
        jax.jit(lambda key: initialize(module, key, images, sketches, target, mask))(jax.random.key(0)))
    params = variables['params']
    e_y, _, alpha = jax.jit(module.apply)(variables, images, sketches, target, mask)
    for b in range(2):
        q = np.mean([trunk(x, params['image_trunk']) for x in np.asarray(images[b])[MASKS[b]]], 0)
        np.testing.assert_allclose(e_y[b], naive.conv_norm(q, params['image_encoder3'], 2), atol=1e-4)
    np.testing.assert_allclose(alpha[:, :, 0, 0], MASKS / MASKS.sum(1, keepdims=True), atol=1e-6)
