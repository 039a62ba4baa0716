import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax.nn import temporal


def test_masked_mean_and_deviation_see_only_what_counts():
    values = np.random.default_rng(5).normal(size=(2, 7, 3)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1]], bool)
    for b in range(2):
        chosen = values[b][mask[b]]
        np.testing.assert_allclose(temporal.masked_mean(values, mask, axis=1)[b], chosen.mean(0), atol=1e-6)
        np.testing.assert_allclose(temporal.deviation(values, mask)[b], chosen.std(0), atol=1e-5)
    both = np.concatenate([values[b][mask[b]] for b in range(2)])
    np.testing.assert_allclose(temporal.masked_mean(values, mask), both.mean(), atol=1e-6)
    assert temporal.masked_mean(values, np.zeros_like(mask)) == 0


def test_difference_drops_pairs_across_the_mask():
    values = np.array([0, 1, 4, 9], np.float32)[None, :, None]
    steps, pairs = temporal.difference(values, np.array([[True, True, False, True]]))
    assert steps[0, :, 0].tolist() == [1, 3, 5]
    assert pairs[0].tolist() == [True, False, False]


def test_block_equals_itself_on_the_unmasked_part():
    x = np.random.default_rng(6).normal(size=(2, 20, 3)).astype(np.float32)
    mask = np.broadcast_to(np.arange(20) >= 8, (2, 20))
    block = temporal.TemporalBlock(4, dilation=2)
    params = block.init(jax.random.key(0), x, mask)
    short = block.apply(params, x[:, 8:], mask[:, 8:])
    whole = block.apply(params, jnp.where(mask[..., None], x, 0), mask)
    np.testing.assert_allclose(whole[:, 8:], short, atol=1e-6)
    assert np.abs(whole[:, :8]).max() == 0
