"""Theta's modules against naive NumPy versions of Equations 1 to 7, and what they must be invariant to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax.geometry import rigid
from talkinghead_jax.models import composition, discriminator, embedding, flow, generator, projection
from talkinghead_jax.nn.initialization import initialize

WIDTHS = (4, 4, 8)


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_equation_2_in_units_of_the_deviation():
    rng = np.random.default_rng(0)
    target, poses, deviation = rng.normal(size=(2, 6)), rng.normal(size=(2, 5, 6)), rng.uniform(0.5, 2, 6)
    mask = np.array([[True] * 5, [True, True, False, True, False]])
    want = [[sum((target[b] / deviation - poses[b, k] / deviation) ** 2) if mask[b, k] else np.inf
             for k in range(5)] for b in range(2)]
    arrays = [jnp.asarray(a, jnp.float32) for a in (target, poses)]
    got = projection.pose_costs(*arrays, jnp.asarray(mask), jnp.asarray(deviation, jnp.float32))
    np.testing.assert_allclose(got, want, rtol=1e-4)
    np.testing.assert_array_equal(projection.match(got), np.argmin(want, -1))


def test_the_harder_matcher_takes_any_valid_reference_but_the_best():
    costs = jnp.broadcast_to(jnp.array([2.0, 1.0, 3.0, jnp.inf]), (200, 4))
    keys = jax.random.split(jax.random.key(0), 200)
    drawn = np.asarray(projection.match_harder(costs, keys, 0.5))
    counts = np.bincount(drawn, minlength=4)
    assert 70 < counts[1] < 130
    assert counts[0] > 20
    assert counts[2] > 20
    assert counts[3] == 0
    assert (np.asarray(projection.match_harder(costs, keys, 0.0)) == 1).all()
    single = jnp.where(jnp.arange(4) == 2, costs, jnp.inf)
    assert (np.asarray(projection.match_harder(single, keys, 1.0)) == 2).all()


def test_equation_3_attention():
    rng = np.random.default_rng(1)
    references, target = rng.normal(size=(2, 3, 2, 2, 4)), rng.normal(size=(2, 2, 2, 4))
    mask = np.array([[True, True, True], [True, False, True]])
    energy = (references * target[:, None]).sum(-1)
    energy[~mask] = -1e9
    got = embedding.attention(*(jnp.asarray(a, jnp.float32) for a in (references, target)), jnp.asarray(mask))
    np.testing.assert_allclose(got, softmax(energy, 1), atol=1e-5)
    assert (np.asarray(got)[1, 1] == 0).all()


def test_equation_6_combination():
    rng = np.random.default_rng(2)
    alpha = softmax(rng.normal(size=(2, 3, 2, 2)), 1)
    refined, gated = rng.normal(size=(2, 3, 2, 2, 4)), rng.normal(size=(2, 3, 2, 2, 4))
    mask = np.array([[True, True, True], [True, False, True]])
    want = np.zeros((2, 2, 2, 4))
    for b in range(2):
        for k in range(3):
            want[b] += alpha[b, k][..., None] * refined[b, k] + mask[b, k] * gated[b, k] / mask[b].sum()
    got = embedding.combine(*(jnp.asarray(a, jnp.float32) for a in (alpha, refined, gated)), jnp.asarray(mask))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_equation_7_matrix_has_output_channels_as_rows():
    rng = np.random.default_rng(3)
    landmark, image = rng.normal(size=(2, 3, 2, 4)), rng.normal(size=(2, 3, 2, 4))
    shares = softmax(landmark, -1).reshape(2, 6, 4)
    want = np.stack([shares[b].T @ image[b].reshape(6, 4) for b in range(2)])
    got = embedding.fuse(jnp.asarray(landmark, jnp.float32), jnp.asarray(image, jnp.float32))
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.fixture(scope='module')
def embedded():
    """A hybrid embedding, its variables and inputs with K = 3."""
    rng = np.random.default_rng(4)
    images = jnp.asarray(rng.uniform(-1, 1, (2, 3, 16, 16, 3)), jnp.float32)
    sketches = jnp.asarray(rng.uniform(0, 1, (2, 3, 16, 16, 1)), jnp.float32)
    target = jnp.asarray(rng.uniform(0, 1, (2, 16, 16, 1)), jnp.float32)
    module = embedding.HybridEmbedding(WIDTHS)
    mask = jnp.ones((2, 3), bool)
    variables = jax.jit(lambda key: initialize(module, key, images, sketches, target, mask))(jax.random.key(0))
    return jax.jit(lambda *a: module.apply(variables, *a)), images, sketches, target, mask


def outputs(result):
    e_y, weights, _ = result
    return [e_y, *(a for level in weights for a in (level.spade, level.embed))]


def test_embedding_has_one_set_of_weights_a_level(embedded):
    apply, *inputs = embedded
    e_y, weights, alpha = apply(*inputs)
    assert e_y.shape == (2, 4, 4, 8)
    assert [level.spade.shape for level in weights] == [(2, 2, 2, c, c + 1) for c in WIDTHS]
    assert [level.embed.shape for level in weights] == [(2, c, c + 1) for c in WIDTHS]
    np.testing.assert_allclose(alpha.sum(1), 1, atol=1e-5)


def test_order_of_references_does_not_matter(embedded):
    apply, images, sketches, target, mask = embedded
    order = np.array([2, 0, 1])
    for a, b in zip(outputs(apply(images, sketches, target, mask)),
                    outputs(apply(images[:, order], sketches[:, order], target, mask)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_three_references_padded_to_six_equal_three(embedded):
    apply, images, sketches, target, mask = embedded
    junk = jax.random.normal(jax.random.key(9), images.shape)
    padded = (jnp.concatenate([images, junk], 1), jnp.concatenate([sketches, junk[..., :1]], 1), target,
              jnp.concatenate([mask, ~mask], 1))
    for a, b in zip(outputs(apply(images, sketches, target, mask)), outputs(apply(*padded)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def plane():
    """A square of two triangles facing the camera, in crop px."""
    vertices = jnp.array([[[64.0, 64, 0], [192, 64, 0], [64, 192, 0], [192, 192, 0]]])
    return vertices, jnp.array([[0, 1, 2], [1, 3, 2]])


def test_projection_in_the_key_pose_is_the_key_image():
    vertices, triangles = plane()
    ramp = jnp.linspace(-1, 1, 32)
    image = jnp.broadcast_to(ramp[None, :, None, None], (1, 32, 32, 3))
    pose, moved = jnp.zeros((1, 6)), jnp.zeros((1, 6)).at[:, 3].set(8.0)
    seen = projection.project(vertices, jnp.ones((1, 4)), triangles, image, pose, pose, moved)
    inside = (slice(0, 1), slice(10, 22), slice(10, 22))
    np.testing.assert_allclose(seen.image[inside], image[inside], atol=0.07)  # soft along the diagonal
    np.testing.assert_allclose(seen.alpha[inside], 1, atol=0.05)
    # p = l + t is fixed, so a pose with t = 8 crop px shows the same point 8 crop px, here 1 px, to the left.
    np.testing.assert_allclose(seen.displacement[inside], np.broadcast_to([-1.0, 0.0], (1, 12, 12, 2)), atol=1e-3)
    assert float(seen.image[0, 0, 0, 0]) == -1
    turned = rigid.repose(vertices, pose, moved)
    np.testing.assert_allclose(turned[..., 0] - vertices[..., 0], -8, atol=1e-4)


def test_hidden_surface_is_black():
    vertices, triangles = plane()
    image, pose = jnp.ones((1, 32, 32, 3)), jnp.zeros((1, 6))
    seen = projection.project(vertices, jnp.zeros((1, 4)), triangles, image, pose, pose, pose)
    np.testing.assert_allclose(seen.image, -1)
    np.testing.assert_allclose(seen.alpha, 0)


def test_landmark_field_moves_faces_and_leaves_the_corners():
    rng = np.random.default_rng(5)
    target = rng.uniform(10, 22, (2, 68, 2)).astype(np.float32)
    shift = np.array([2.0, -1.0], np.float32)
    field = np.asarray(flow.landmark_field(jnp.asarray(target), jnp.asarray(target + shift), 32))
    np.testing.assert_allclose(field[:, 14:18, 14:18], np.broadcast_to(shift, (2, 4, 4, 2)), atol=0.1)
    np.testing.assert_allclose(field[:, 0, 0], 0, atol=0.1)
    weights = np.exp(-0.5 * np.square((np.array([12, 9]) - target[0]) / (20 / 256 * 32)).sum(-1))
    want = (weights[:, None] * shift).sum(0) / (weights.sum() + 0.1)
    np.testing.assert_allclose(field[0, 9, 12], want, atol=1e-4)


def test_landmark_embedding_and_decoder_have_every_level(embedded):
    apply, *inputs = embedded
    e_y, weights, _ = apply(*inputs)
    module = composition.LandmarkEmbedding(WIDTHS)
    maps = module.apply(initialize(module, jax.random.key(0), inputs[2], weights), inputs[2], weights)
    assert [m.shape for m in maps] == [(2, 16, 16, 4), (2, 8, 8, 4), (2, 4, 4, 8)]
    decoder = composition.Decoder(WIDTHS)
    arguments = (e_y, maps, weights, [maps, maps])
    image = decoder.apply(initialize(decoder, jax.random.key(0), *arguments), *arguments)
    assert image.shape == (2, 16, 16, 3)
    assert float(jnp.abs(image).max()) <= 1


def test_discriminator_judges_each_image_by_itself():
    module = discriminator.MultiScaleDiscriminator(4, 8, 2)
    condition, real, fake = (jax.random.normal(jax.random.key(i), (2, 32, 32, 3)) for i in range(3))
    variables = initialize(module, jax.random.key(3), condition, real, fake)
    real_features, fake_features = module.apply(variables, condition, real, fake)
    assert len(real_features) == len(fake_features) == 2
    assert real_features[0][-1].shape[-1] == 1
    swapped_real, _ = module.apply(variables, condition, fake, real)
    for a, b in zip(jax.tree.leaves(swapped_real), jax.tree.leaves(fake_features), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize('ablation', generator.ABLATIONS)
def test_every_ablation_makes_an_image(ablation):
    module = generator.Generator(4, 8, 3, 1, 1, ablation)
    frame, line = jax.ShapeDtypeStruct((2, 16, 16, 3), 'float32'), jax.ShapeDtypeStruct((2, 16, 16, 1), 'float32')
    references = jax.ShapeDtypeStruct((2, 3, 16, 16, 3), 'float32')
    sketches = jax.ShapeDtypeStruct((2, 3, 16, 16, 1), 'float32')

    def run(references, sketches, frame, line):
        sources = {name: generator.Source(frame, line, frame[..., :2]) for name in ('matched', 'render')}
        arguments = (references, sketches, jnp.ones((2, 3), bool), line, sources)
        image, warped = module.apply(initialize(module, jax.random.key(0), *arguments), *arguments)
        return image, {name: (w.image, w.flow, w.attention) for name, w in warped.items()}

    image, warped = jax.eval_shape(run, references, sketches, frame, line)
    assert image.shape == (2, 16, 16, 3)
    assert set(warped) == ({'matched'} if ablation == 'no_3d' else {'matched', 'render'})
