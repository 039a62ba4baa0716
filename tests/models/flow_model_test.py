"""The landmarks' displacement field, the flow network and the warp against loops (paper, Sec. 4.3)."""

import jax
import jax.numpy as jnp
import naive_layers as naive
import numpy as np
import pytest

from talkinghead_jax.models import flow
from talkinghead_jax.nn.initialization import initialize


def as_float32(*arrays):
    return [jnp.asarray(a, jnp.float32) for a in arrays]


def naive_field(target, source, size):
    """Gaussian average of the displacements, with the weight of 'does not move', at every pixel."""
    out, radius = np.zeros((size, size, 2)), flow.RADIUS * size
    for row in range(size):
        for column in range(size):
            weights = [np.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * radius ** 2)) for x, y in target]
            moved = sum(w * (s - t) for w, t, s in zip(weights, target, source, strict=True))
            out[row, column] = moved / (sum(weights) + flow.REST)
    return out


def test_landmark_field_against_loops():
    rng = np.random.default_rng(5)
    target = rng.uniform(-2, 12, (2, 68, 2))
    source = target + rng.normal(size=(2, 68, 2))
    want = [naive_field(*points, 12) for points in zip(target, source, strict=True)]
    np.testing.assert_allclose(flow.landmark_field(*as_float32(target, source), 12), want, atol=1e-4)


def test_landmark_field_moves_faces_and_leaves_the_corners():
    target = np.random.default_rng(5).uniform(10, 22, (2, 68, 2))
    shift = np.array([2.0, -1.0])
    field = np.asarray(flow.landmark_field(*as_float32(target, target + shift), 32))
    np.testing.assert_allclose(field[:, 14:18, 14:18], np.broadcast_to(shift, (2, 4, 4, 2)), atol=0.1)
    np.testing.assert_allclose(field[:, 0, 0], 0, atol=0.1)


@pytest.fixture(scope='module')
def flow_net():
    """(apply, params, inputs) of a small flow network with its initial weights."""
    rng = np.random.default_rng(6)
    inputs = as_float32(rng.uniform(0, 1, (2, 16, 16, 1)), rng.uniform(0, 1, (2, 16, 16, 1)),
                        rng.uniform(-1, 1, (2, 16, 16, 3)), rng.normal(size=(2, 16, 16, 2)))
    module = flow.FlowNet(4, 8, 2, 1)
    variables = jax.jit(lambda key: initialize(module, key, *inputs))(jax.random.key(0))
    return jax.jit(lambda params, *a: module.apply({'params': params}, *a)), variables['params'], inputs


def test_the_first_flow_is_what_the_landmarks_suggest(flow_net):
    apply, params, inputs = flow_net
    found, mask = apply(params, *inputs)
    np.testing.assert_allclose(found, inputs[3], atol=1e-6)
    assert mask.shape == (2, 16, 16, 1)
    assert float(mask.min()) > 0
    assert float(mask.max()) < 1


def test_every_input_moves_the_flow_and_each_example_its_own(flow_net):
    apply, params, inputs = flow_net
    params = {**params, 'flow': naive.randomized(params['flow'])}
    found, _ = apply(params, *inputs)
    for i in range(4):
        changed = [x.at[1].add(0.5 if i == j else 0.0) for j, x in enumerate(inputs)]
        difference = np.abs(np.asarray(apply(params, *changed)[0] - found)).max((1, 2, 3))
        assert difference[0] < 1e-5 < 1e-3 < difference[1]


def test_a_heads_output_of_one_is_20_px_at_256(flow_net):
    apply, params, inputs = flow_net
    head = {'kernel': 0 * params['flow']['kernel'], 'bias': jnp.array([1.0, -0.5])}
    found, _ = apply({**params, 'flow': head}, *inputs)
    np.testing.assert_allclose(found - inputs[3], np.broadcast_to([20 / 16, -10 / 16], (2, 16, 16, 2)), atol=1e-5)


def test_warp_samples_at_x_plus_flow():
    rng = np.random.default_rng(7)
    image, moved = rng.normal(size=(2, 5, 6, 3)), rng.uniform(-3, 3, (2, 5, 6, 2))
    want = np.zeros(image.shape)
    for b, row, column in np.ndindex(2, 5, 6):
        x = np.clip(column + moved[b, row, column, 0], 0, 5)
        y = np.clip(row + moved[b, row, column, 1], 0, 4)
        for v in range(5):
            for u in range(6):  # bilinear: hat functions about each pixel
                want[b, row, column] += max(0, 1 - abs(x - u)) * max(0, 1 - abs(y - v)) * image[b, v, u]
    np.testing.assert_allclose(flow.warp(*as_float32(image, moved)), want, atol=1e-5)
