"""The warp against a naive loop, scipy, finite differences, and its fixed points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from talkinghead_jax.ops import flow_warp

SHAPE = (2, 6, 7, 3)


def example(scale=4.0, dtype=np.float64):
    rng = np.random.default_rng(0)
    return rng.normal(size=SHAPE).astype(dtype), (scale * rng.normal(size=(*SHAPE[:3], 2))).astype(dtype)


def naive(image, flow):
    batch, height, width, _ = image.shape
    out = np.zeros_like(image)
    for b, y, x in np.ndindex(batch, height, width):
        px = np.clip(x + flow[b, y, x, 0], 0, width - 1)
        py = np.clip(y + flow[b, y, x, 1], 0, height - 1)
        x0, y0 = int(np.floor(px)), int(np.floor(py))
        x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
        fx, fy = px - x0, py - y0
        out[b, y, x] = ((1 - fx) * (1 - fy) * image[b, y0, x0] + fx * (1 - fy) * image[b, y0, x1]
                        + (1 - fx) * fy * image[b, y1, x0] + fx * fy * image[b, y1, x1])
    return out


def test_equals_naive_loop_and_scipy():
    with jax.enable_x64(True):
        image, flow = example()
        warped = flow_warp.warp(image, flow)
        np.testing.assert_allclose(warped, naive(image, flow), atol=1e-13)
        rows, columns = np.indices(SHAPE[1:3])
        for b, c in np.ndindex(SHAPE[0], SHAPE[3]):
            at = [rows + flow[b, ..., 1], columns + flow[b, ..., 0]]
            np.testing.assert_allclose(
                warped[b, ..., c], scipy.ndimage.map_coordinates(image[b, ..., c], at, order=1, mode='nearest'),
                atol=1e-12)


def test_zero_flow_is_the_identity():
    image, flow = example(0.0, np.float32)
    np.testing.assert_array_equal(jax.jit(flow_warp.warp)(image, flow), image)


def test_integer_flow_shifts_and_the_border_continues():
    image, flow = example(0.0, np.float32)
    flow += np.float32([2, -1])
    warped = np.asarray(flow_warp.warp(image, flow))
    np.testing.assert_array_equal(warped[:, 1:, :-2], image[:, :-1, 2:])
    np.testing.assert_array_equal(warped[:, 0, :-2], image[:, 0, 2:])
    np.testing.assert_array_equal(warped[:, 1:, -1], image[:, :-1, -1])


def test_far_flow_is_the_corner_without_gradient():
    image, flow = example(0.0, np.float32)
    far = flow + np.float32(1e9)
    np.testing.assert_array_equal(flow_warp.warp(image, far), np.broadcast_to(image[:, -1:, -1:], SHAPE))
    assert not jax.grad(lambda f: (flow_warp.warp(image, f) ** 2).sum())(far).any()


def test_gradients_are_finite_differences():
    with jax.enable_x64(True):
        image, flow = example(2.0)
        weight = np.random.default_rng(1).normal(size=SHAPE)

        def loss(image, flow):
            return (flow_warp.warp(image, flow) * weight).sum()

        check_grads(loss, (image, flow), order=1, modes=('rev',), atol=1e-6, rtol=1e-6, eps=1e-7)


def test_cpu_scan_equals_scatter():
    image, flow = example(dtype=np.float32)
    cells = flow_warp._cells(jnp.asarray(flow))
    parts = cells.rows, cells.across, cells.down, jnp.asarray(image).reshape(-1, SHAPE[-1])
    np.testing.assert_allclose(flow_warp._scan_rows(*parts), flow_warp._scatter_rows(*parts), atol=1e-5)


def test_batch_is_a_loop_and_one_pixel_wide_images_work():
    image, flow = example(dtype=np.float32)
    together = flow_warp.warp(image, flow)
    for b in range(SHAPE[0]):
        np.testing.assert_allclose(flow_warp.warp(image[b:b + 1], flow[b:b + 1])[0], together[b], atol=1e-6)
    image, flow = image[:, :, :1], flow[:, :, :1]
    np.testing.assert_allclose(flow_warp.warp(image, flow), naive(image, flow), atol=1e-5)


@pytest.mark.parametrize('platform', ['cpu', 'cuda', 'tpu'])
def test_lowers_on_every_platform(platform):
    image, flow = example(dtype=np.float32)
    step = jax.jit(jax.grad(lambda i, f: flow_warp.warp(i, f).sum(), argnums=(0, 1)))
    assert step.trace(image, flow).lower(lowering_platforms=(platform,)).as_text()


def test_sharded_batch_needs_no_collectives():
    image, flow = example(dtype=np.float32)
    image, flow = np.tile(image, (4, 1, 1, 1)), np.tile(flow, (4, 1, 1, 1))
    mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))

    def forward_and_backward(image, flow):
        warped, pull = jax.vjp(flow_warp.warp, image, flow)
        return warped, pull(warped)

    sharded = jax.jit(jax.shard_map(forward_and_backward, mesh=mesh, in_specs=P('data'), out_specs=P('data')))
    placed = jax.device_put((image, flow), jax.NamedSharding(mesh, P('data')))
    compiled = sharded.lower(*placed).compile()
    text = compiled.as_text()
    assert not [name for name in ('all-gather', 'all-reduce', 'all-to-all', 'collective-permute') if name in text]
    for x, y in zip(jax.tree.leaves(compiled(*placed)), jax.tree.leaves(forward_and_backward(image, flow)),
                    strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


def test_wrong_flow_is_named():
    image, flow = example()
    with pytest.raises(ValueError, match=r'flow: found shape'):
        flow_warp.warp(image, flow[..., :1])
