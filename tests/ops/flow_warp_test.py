"""The warp against naive loops, scipy, finite differences, its fixed points, and its own other forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.sharding import PartitionSpec as P

from talkinghead_jax.ops import flow_warp

SHAPE = (2, 6, 7, 3)


def example(scale=4.0, dtype=np.float64, shape=SHAPE):
    """An image, a flow of that many px, and a gradient to the warped image."""
    rng = np.random.default_rng(0)
    image, gradient = rng.normal(size=(2, *shape)).astype(dtype)
    return image, (scale * rng.normal(size=(*shape[:3], 2))).astype(dtype), gradient


def pull(image, flow, gradient):
    warped, back = jax.vjp(flow_warp.warp, image, flow)
    return warped, *back(gradient)


def naive(image, flow, gradient):
    """The warped image and both gradients, one pixel after the other."""
    batch, height, width, _ = image.shape
    warped, g_image, g_flow = np.zeros_like(image), np.zeros_like(image), np.zeros_like(flow)
    for b, y, x in np.ndindex(batch, height, width):
        px, py = x + flow[b, y, x, 0], y + flow[b, y, x, 1]
        cx, cy = np.clip(px, 0, width - 1), np.clip(py, 0, height - 1)
        x0, y0 = int(np.floor(cx)), int(np.floor(cy))
        slope = np.zeros(2)
        for i, j in np.ndindex(2, 2):
            wx, wy = (1 - (cx - x0), cx - x0)[j], (1 - (cy - y0), cy - y0)[i]
            at = b, min(y0 + i, height - 1), min(x0 + j, width - 1)
            warped[b, y, x] += wx * wy * image[at]
            g_image[at] += wx * wy * gradient[b, y, x]
            slope += np.array([(-1, 1)[j] * wy, (-1, 1)[i] * wx]) * (image[at] @ gradient[b, y, x])
        g_flow[b, y, x] = slope * [0 < px < width - 1, 0 < py < height - 1]
    return warped, g_image, g_flow


def assert_close(found, wanted, atol):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(np.asarray(x, np.float64), np.asarray(y, np.float64), rtol=0, atol=atol)


@pytest.mark.parametrize(('shape', 'scale'), [
    (SHAPE, 4.0), (SHAPE, 0.0), ((1, 9, 4, 1), 4.0), ((3, 2, 2, 33), 1.0), ((1, 1, 5, 2), 2.0), ((2, 5, 1, 2), 2.0),
    ((1, 1, 1, 1), 1.0), ((0, 4, 5, 3), 1.0)])
def test_image_and_gradients_equal_naive_loops(shape, scale):
    with jax.enable_x64(True):
        args = example(scale, shape=shape)
        wanted = naive(*args)
        assert_close(pull(*args), wanted, 1e-12)
        assert_close(jax.jit(pull)(*args), wanted, 1e-12)


def test_equals_scipy():
    with jax.enable_x64(True):
        image, flow, _ = example()
        warped = flow_warp.warp(image, flow)
        rows, columns = np.indices(SHAPE[1:3])
        for b, c in np.ndindex(SHAPE[0], SHAPE[3]):
            at = [rows + flow[b, ..., 1], columns + flow[b, ..., 0]]
            np.testing.assert_allclose(
                warped[b, ..., c], scipy.ndimage.map_coordinates(image[b, ..., c], at, order=1, mode='nearest'),
                atol=1e-12)


def test_gradients_are_finite_differences():
    with jax.enable_x64(True):
        image, flow, gradient = example(2.0)
        position = flow + np.stack(np.meshgrid(np.arange(7), np.arange(6)), -1)
        near_border_of_cell = np.abs(position - np.round(position)) < 1e-3
        flow = np.where(near_border_of_cell, flow + 0.01, flow)
        _, *found = pull(image, flow, gradient)

        def loss(*args):
            return np.sum(np.asarray(flow_warp.warp(*args)) * gradient)

        rng = np.random.default_rng(1)
        for which, step in ((0, 1e-3), (1, 1e-6)):
            direction = rng.normal(size=(image, flow)[which].shape)
            ends = [[x + sign * step * direction if i == which else x for i, x in enumerate((image, flow))]
                    for sign in (1, -1)]
            difference = (loss(*ends[0]) - loss(*ends[1])) / (2 * step)
            assert abs(difference - np.sum(found[which] * direction)) < 1e-7


@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.float16, jnp.bfloat16])
def test_zero_flow_is_the_identity(dtype):
    with jax.enable_x64(dtype == np.float64):
        image, flow, gradient = (jnp.asarray(x, dtype) for x in example(0.0, shape=(1, 5, 300, 2)))
        warped, g_image, _ = pull(image, flow, gradient)
        assert warped.dtype == g_image.dtype == dtype
        np.testing.assert_array_equal(warped, image)
        np.testing.assert_array_equal(g_image, gradient)


def test_integer_flow_shifts_and_the_border_continues():
    image, flow, _ = example(0.0, np.float32)
    flow += np.float32([2, -1])
    warped = np.asarray(flow_warp.warp(image, flow))
    np.testing.assert_array_equal(warped[:, 1:, :-2], image[:, :-1, 2:])
    np.testing.assert_array_equal(warped[:, 0, :-2], image[:, 0, 2:])
    np.testing.assert_array_equal(warped[:, 1:, -1], image[:, :-1, -1])


@pytest.mark.parametrize(('far', 'row', 'column'), [
    (30.0, -1, -1), (-30.0, 0, 0), (1e30, -1, -1), (-1e30, 0, 0), (np.inf, -1, -1), (-np.inf, 0, 0), (np.nan, 0, 0)])
def test_flow_off_the_image_reads_the_border_without_gradient(far, row, column):
    image, flow, gradient = example(0.0, np.float32)
    warped, g_image, g_flow = pull(image, flow + np.float32(far), gradient)
    np.testing.assert_array_equal(warped, np.broadcast_to(image[:, row, column][:, None, None], SHAPE))
    np.testing.assert_allclose(g_image[:, row, column], gradient.sum((1, 2)), atol=1e-5)
    assert np.count_nonzero(g_image) == SHAPE[0] * SHAPE[3]
    assert not np.any(g_flow)


def test_flow_off_one_side_keeps_the_other_gradient():
    image, flow, gradient = example(0.0, np.float32)
    _, _, g_flow = pull(image, flow + np.float32([100, 0.5]), gradient)
    assert not np.any(g_flow[..., 0])
    assert np.all(g_flow[:, :-1, :, 1])


@pytest.mark.parametrize('low', [np.float16, jnp.bfloat16])
def test_low_precision_is_blended_and_summed_in_float32(low):
    image, flow, gradient = example(2.0, np.float32, (1, 4, 300, 2))
    flow[..., 0] -= 150  # many pixels add to the left border
    image, gradient = jnp.asarray(image, low), jnp.asarray(gradient, low)
    found = pull(image, flow, gradient)
    wanted = naive(*(np.asarray(x, np.float64) for x in (image, flow, gradient)))
    assert [x.dtype for x in found] == [low, low, np.float32]
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float64), y, rtol=jnp.finfo(low).eps, atol=1e-4)


def test_mixed_types_keep_their_own():
    with jax.enable_x64(True):
        image, flow, gradient = example()
        for types in ((np.float32, np.float64), (np.float64, np.float32)):
            args = image.astype(types[0]), flow.astype(types[1]), gradient.astype(types[0])
            found = pull(*args)
            assert [x.dtype for x in found] == [types[0], *types]
            assert_close(found, naive(*(x.astype(np.float64) for x in args)), 1e-5)


def test_scan_equals_scatter():
    with jax.enable_x64(True):
        image, flow, gradient = example()
        args = jnp.asarray(image), jnp.asarray(flow), jnp.asarray(gradient).reshape(-1, SHAPE[-1])
        for scan in (flow_warp._scan_cells, flow_warp._scan_rows):
            assert_close(scan(*args), flow_warp._scatter_rows(*args), 1e-13)


def test_batch_is_a_loop():
    args = example(dtype=np.float32)
    together = pull(*args)
    for b in range(SHAPE[0]):
        assert_close(pull(*(x[b:b + 1] for x in args)), [x[b:b + 1] for x in together], 1e-6)


@pytest.mark.parametrize('axes', [(0, 0, 0), (1, 2, 0), (None, 0, 0), (0, None, 0), (None, None, 0)])
def test_vmap_is_a_loop(axes):
    with jax.enable_x64(True):
        examples = [example(scale) for scale in (1.0, 2.0, 3.0)]
        args = [x[0] if axis is None else np.stack(x, axis)
                for x, axis in zip(zip(*examples, strict=True), axes, strict=True)]
        found = jax.vmap(pull, axes)(*args)
        for i in range(3):
            one = [x if axis is None else np.take(x, i, axis) for x, axis in zip(args, axes, strict=True)]
            assert_close([x[i] for x in found], pull(*one), 1e-13)


def test_gradient_through_vmap_sums_over_what_is_shared():
    with jax.enable_x64(True):
        image, _, gradient = example()
        flows = np.stack([example(scale)[1] for scale in (1.0, 2.0, 3.0)])

        def loss(image, flow):
            return jnp.sum(flow_warp.warp(image, flow) * gradient)

        found = jax.grad(lambda x: jax.vmap(loss, (None, 0))(x, flows).sum())(image)
        np.testing.assert_allclose(found, sum(pull(image, flow, gradient)[1] for flow in flows), atol=1e-12)


def test_vmap_folds_into_one_call():
    args = [np.stack([x, x]) for x in example(dtype=np.float32)]
    text = str(jax.make_jaxpr(jax.vmap(jax.vmap(pull)))(*(np.stack([x, x]) for x in args)))
    pixels = SHAPE[0] * SHAPE[1] * SHAPE[2]
    assert f'f32[{4 * pixels},{SHAPE[3]}]' in text  # 4 batches in one scan's carry
    assert f'f32[{pixels},{SHAPE[3]}]' not in text


def test_donated_arguments():
    args = example(dtype=np.float32)
    wanted = pull(*args)
    donated = jax.jit(pull, donate_argnums=(0, 1, 2))(*(jnp.array(x) for x in args))
    assert_close(donated, wanted, 1e-6)


@pytest.mark.parametrize(('platform', 'loops'), [('cpu', True), ('cuda', False), ('tpu', False)])
def test_each_platform_lowers_to_its_form(platform, loops):
    args = example(dtype=np.float32)
    text = jax.jit(pull).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    assert ('stablehlo.while' in text) == loops
    assert ('stablehlo.scatter' in text) != loops


def sharded(function, in_specs, out_specs):
    mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs))


@pytest.mark.usefixtures('quickly_compiled')
@pytest.mark.parametrize('backward', [flow_warp._scan_cells, flow_warp._scan_rows, flow_warp._scatter_rows])
def test_sharded_batch_needs_no_collectives(backward, monkeypatch):
    platform_dependent = functools.partial(jax.lax.platform_dependent, cpu=backward)
    monkeypatch.setattr(flow_warp.lax, 'platform_dependent', lambda *args, **_: platform_dependent(*args))
    jax.clear_caches()
    args = [np.tile(x, (4, 1, 1, 1)) for x in example(dtype=np.float32)]
    compiled = sharded(pull, P('data'), P('data')).lower(*args).compile()
    text = compiled.as_text()
    assert not [name for name in ('all-gather', 'all-reduce', 'all-to-all', 'collective-permute') if name in text]
    assert_close(compiled(*args), pull(*args), 1e-5)
    jax.clear_caches()


def test_vmap_inside_shards():
    args = [np.tile(x, (4, 1, 1, 1))[:, None] for x in example(dtype=np.float32)]
    assert_close(sharded(jax.vmap(pull), P('data'), P('data'))(*args), jax.vmap(pull)(*args), 1e-6)


@pytest.mark.parametrize('shared', [0, 1])
def test_gradient_of_what_all_shards_share_is_summed(shared):
    image, flow, gradient = (np.tile(x, (4, 1, 1, 1)) for x in example(dtype=np.float32))
    args = [x[:1] if i == shared else x for i, x in enumerate((image, flow))]
    specs = [P() if i == shared else P('data') for i in range(2)]

    def both(image, flow, gradient):
        return jax.vjp(flow_warp.warp, image, flow)[1](gradient)

    found = sharded(both, (*specs, P('data')), tuple(specs))(*args, gradient)
    wanted = list(both(*(jnp.asarray(np.broadcast_to(x, (8, *x.shape[1:]))) for x in args), gradient))
    wanted[shared] = wanted[shared].sum(0, keepdims=True)
    assert_close(found, wanted, 1e-4)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda image, flow: (image, flow[..., :1]), r'flow: found shape \(2, 6, 7, 1\)'),
    (lambda image, flow: (image[0], flow), r'flow: found shape'),
    (lambda image, flow: ((255 * image).astype(np.uint8), flow), r'image: found uint8'),
    (lambda image, flow: (image, flow.astype(np.int32)), r'flow: found int32')])
def test_wrong_arguments_are_named(change, message):
    image, flow, _ = example(dtype=np.float32)
    with pytest.raises(ValueError, match=message):
        flow_warp.warp(*change(np.abs(image), flow))
