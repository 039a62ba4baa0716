"""`per_shard`: where it splits and where it steps aside, and the two ops under it in every platform's form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from talkinghead_jax.nn.temporal import masked_mean
from talkinghead_jax.ops import batch_parallel, flow_warp, soft_rasterizer

pytestmark = pytest.mark.usefixtures('quick_compilation')

COLLECTIVES = ('all-gather', 'all-reduce', 'all-to-all', 'collective-permute', 'reduce-scatter')
BATCH = 16


def make_mesh(shape=(4, 2), names=('data', 'fsdp')):
    return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape))


def compile_split(function, arguments, in_axes, mesh):
    """`function` compiled for a split batch as the train step is, and the arguments where it wants them."""
    split, whole = (jax.NamedSharding(mesh, PartitionSpec(axes)) for axes in (mesh.axis_names, None))
    shardings = tuple(whole if axis is None else split for axis in in_axes)
    with jax.set_mesh(mesh):
        compiled = jax.jit(function, in_shardings=shardings).lower(*arguments).compile()
    return compiled, jax.device_put(arguments, shardings)


def sent(compiled):
    return [name for name in COLLECTIVES if name in compiled.as_text()]


def lookup(tables, index):
    """(B, N), (B, N) -> (B, N), by a gather that flattens the batch; it remembers the sizes that it saw."""
    lookup.batches.append(len(tables))
    first = jnp.arange(len(tables))[:, None] * tables.shape[1]
    return jnp.take(tables.reshape(-1), (index + first).reshape(-1), mode='clip').reshape(tables.shape)


@pytest.fixture(autouse=True)
def _forget():
    lookup.batches = []


def tables():
    rng = np.random.default_rng(0)
    return rng.normal(size=(BATCH, 6)).astype(np.float32), rng.integers(0, 6, (BATCH, 6)).astype(np.int32)


def test_a_flattening_gather_needs_it():
    arguments = tables()
    plain, _ = compile_split(lookup, arguments, (0, 0), make_mesh())
    assert sent(plain)
    compiled, placed = compile_split(batch_parallel.per_shard(lookup, (0, 0)), arguments, (0, 0), make_mesh())
    assert not sent(compiled)
    assert lookup.batches == [BATCH, BATCH // 8]
    np.testing.assert_array_equal(compiled(*placed), np.take_along_axis(*arguments, axis=1))


@pytest.mark.parametrize(('shape', 'names', 'seen'), [
    ((8,), ('data',), BATCH // 8), ((2, 4), ('fsdp', 'data'), BATCH // 8), ((8,), ('model',), BATCH),
    ((4, 2), ('data', 'model'), BATCH // 4), ((1, 1), ('data', 'fsdp'), BATCH)])
def test_only_the_batch_axes_split(shape, names, seen):
    mesh = jax.sharding.AbstractMesh(shape, names, axis_types=(AxisType.Auto,) * len(shape))
    with jax.sharding.use_abstract_mesh(mesh):
        out = jax.eval_shape(batch_parallel.per_shard(lookup, (0, 0)), *tables())
    assert lookup.batches == [seen]
    assert out.shape == (BATCH, 6)


def test_one_devices_code_is_left_alone():
    function, arguments = batch_parallel.per_shard(lookup, (0, 0)), tables()
    expected = np.take_along_axis(*arguments, axis=1)
    np.testing.assert_array_equal(function(*arguments), expected)
    with jax.set_mesh(make_mesh()):
        inside = jax.jit(jax.shard_map(function, in_specs=PartitionSpec('data'), out_specs=PartitionSpec('data'),
                                       axis_names={'data', 'fsdp'}))
        np.testing.assert_array_equal(inside(*arguments), expected)
    by_device = [x.reshape(8, -1, 6) for x in arguments]
    np.testing.assert_array_equal(np.reshape(jax.pmap(function, axis_name='data')(*by_device), (BATCH, 6)), expected)
    assert lookup.batches == [BATCH, BATCH // 4, BATCH // 8]


def test_a_batch_that_does_not_divide_is_refused():
    with jax.set_mesh(make_mesh()), pytest.raises(ValueError, match=r'batch of 12 on a mesh of 8 .* multiple of 8'):
        jax.jit(batch_parallel.per_shard(lookup, (0, 0)))(*(x[:12] for x in tables()))


def test_gradients_add_up_over_examples_for_what_they_share():
    def scaled(x, scale):
        return jnp.sin(x * scale[None])

    x, scale = tables()[0], np.linspace(1, 2, 6, dtype=np.float32)
    function = jax.grad(lambda *a: batch_parallel.per_shard(scaled, (0, None))(*a).sum(), argnums=(0, 1))
    compiled, placed = compile_split(function, (x, scale), (0, None), make_mesh())
    g_x, g_scale = compiled(*placed)
    np.testing.assert_allclose(g_x, np.cos(x * scale) * scale, rtol=1e-5)
    np.testing.assert_allclose(g_scale, (np.cos(x * scale) * x).sum(0), rtol=1e-5)


def warp_and_pull(image, flow):
    warped, pull = jax.vjp(batch_parallel.per_shard(flow_warp.warp, (0, 0)), image, flow)
    return warped, pull(warped)


def rasterize_and_pull(vertices, triangles, attributes):
    draw = batch_parallel.per_shard(functools.partial(soft_rasterizer.rasterize, size=16), (0, None, 0))
    outputs, pull = jax.vjp(lambda v, a: draw(v, triangles, a), vertices, attributes)
    return outputs, pull(jax.tree.map(jnp.ones_like, outputs))


def warp_example():
    rng = np.random.default_rng(1)
    image, flow = rng.normal(size=(BATCH, 9, 10, 3)), 3 * rng.normal(size=(BATCH, 9, 10, 2))
    return image.astype(np.float32), flow.astype(np.float32)


def rasterizer_example():
    """A bumpy 5 x 5 grid of vertices, and one triangle larger than the picture behind it."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:5, :5] * 3.0 + 1.3
    grid = np.stack([x, y, 0 * x], -1).reshape(-1, 3) + rng.normal(size=(BATCH, 25, 3))
    large = np.broadcast_to(np.array([[-20.0, -20, -9], [50, 0, -9], [0, 50, -9]]), (BATCH, 3, 3))
    corner = np.add.outer([0, 5, 10, 15], np.arange(4)).ravel()
    triangles = [(c, c + 1, c + 5) for c in corner] + [(c + 1, c + 6, c + 5) for c in corner] + [(25, 26, 27)]
    return (np.concatenate([grid, large], 1).astype(np.float32), np.array(triangles, np.int32),
            rng.normal(size=(BATCH, 28, 2)).astype(np.float32))


@pytest.fixture(params=['cpu', 'cuda', 'tpu'])
def _form(request, monkeypatch):
    """Each platform's form of the ops, compiled for this machine's CPU."""
    def choose(*arguments, default=None, **forms):
        return forms.get(request.param, default)(*arguments)

    monkeypatch.setattr(lax, 'platform_dependent', choose)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.usefixtures('_form')
@pytest.mark.parametrize(('function', 'example', 'in_axes'), [
    (warp_and_pull, warp_example, (0, 0)), (rasterize_and_pull, rasterizer_example, (0, None, 0))])
def test_ops_send_nothing_in_any_platforms_form(function, example, in_axes):
    arguments = example()
    compiled, placed = compile_split(function, arguments, in_axes, make_mesh())
    assert not sent(compiled)
    for x, y in zip(*(jax.tree.leaves(outputs) for outputs in (compiled(*placed), jax.jit(function)(*arguments))),
                    strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4 * max(1, np.abs(y).max()))


def test_masked_means_weigh_examples_under_pmap_only():
    """Each device's share of the mean; a shard, whose axes are not pmap's, averages what it sees."""
    values, counts = np.arange(16, dtype=np.float32).reshape(8, 2) ** 2, np.arange(16).reshape(8, 2) % 5 < 2
    shares = jax.pmap(masked_mean, batch_parallel.MAPPED_AXIS)(values, counts)
    np.testing.assert_allclose(np.mean(shares), values[counts].mean(), rtol=1e-6)
    own = [row[count].mean() if count.any() else 0.0 for row, count in zip(values, counts, strict=True)]
    assert abs(np.mean(own) - values[counts].mean()) > 1
    shard = batch_parallel.per_shard(lambda x, count: masked_mean(x, count)[None], (0, 0))
    compiled, placed = compile_split(shard, (values, counts), (0, 0), make_mesh())
    assert not sent(compiled)
    np.testing.assert_allclose(compiled(*placed), own, rtol=1e-6)
