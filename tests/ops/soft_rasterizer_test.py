"""The splat against the all-pairs reference, its gradients, and meshes that break rasterizers.

Compiled as for users where machine code matters: at full size, in float32 against float64, for what is not a number
in one's mesh, and for its memory.
"""

import functools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import softras_kernel
from jax.sharding import PartitionSpec as P
from mesh_scenes import scene

from talkinghead_jax.ops import cuda_scatter, soft_rasterizer, soft_rasterizer_reference
from talkinghead_jax.ops.rasterizing import windows

SIZE = 20
FORMS = ('cpu', 'gpu', 'tpu')
SETTINGS = ({'sigma': 1e-4, 'gamma': 1e-4}, {'sigma': 1e-2, 'gamma': 3e-3, 'background': 0.3})


def weighted_sum(outputs):
    """A number that depends on every output."""
    rng = np.random.default_rng(5)
    return sum((x * rng.normal(size=x.shape).astype(x.dtype)).sum() for x in outputs)


def both(triangles, size=SIZE, **settings):
    """The rasterizer and the all-pairs reference, as functions of vertices and attributes."""
    speed = {k: settings.pop(k) for k in ('form', 'window', 'chunk') if k in settings}
    splat, plain = (functools.partial(module.rasterize, size=size, **settings)
                    for module in (soft_rasterizer, soft_rasterizer_reference))
    return (lambda v, a: splat(v, triangles, a, **speed)), lambda v, a: plain(v, triangles, a)


def assert_same(found, expected, tolerance):
    for name, x, y in zip(('image', 'alpha', 'depth'), found, expected, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * max(1, np.abs(y).max()), err_msg=name)


def outputs_and_gradients(rasterize):
    """One compiled function: outputs, and gradients of a number that depends on all of them."""
    def loss(vertices, attributes):
        outputs = rasterize(vertices, attributes)
        return weighted_sum(outputs), outputs

    def both(vertices, attributes):
        gradients, outputs = jax.grad(loss, argnums=(0, 1), has_aux=True)(vertices, attributes)
        return outputs, gradients

    return jax.jit(both)


def assert_all_same(found, expected, tolerance):
    assert_same(found[0], expected[0], tolerance)
    for x, y in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * np.abs(y).max())


@pytest.mark.usefixtures('quickly_compiled')
@pytest.mark.parametrize(('form', 'divisions', 'size', 'settings'), [
    ('cpu', 3, 64, {'sigma': 1e-4, 'gamma': 1e-3, 'background': 0.3}),
    ('gpu', 2, 64, {'sigma': 1e-3, 'gamma': 1e-2, 'far': 100.0, 'grad': 'softras'}),
    ('gpu', 3, 64, {'sigma': 1e-5, 'gamma': 1e-4}),
    ('tpu', 2, 60, {'sigma': 1e-4, 'gamma': 1e-4, 'far': 6010.0, 'background': 0.3}),  # the far plane cuts the mesh
])
def test_equals_all_pairs_in_image_and_gradients(form, divisions, size, settings):
    with jax.enable_x64(True):
        vertices, triangles, attributes = scene(divisions, batch=1, channels=3, size=size)
        splat, plain = map(outputs_and_gradients, both(triangles, size, form=form, **settings))
        found = splat(vertices, attributes)
        assert 0.3 < found[0][1].mean() < 0.9, 'the scene shows both mesh and background'
        assert_all_same(found, plain(vertices, attributes), 1e-10)


def test_equals_all_pairs_at_full_size():
    """With the machine code that users run."""
    with jax.enable_x64(True):
        vertices, triangles, attributes = scene(2, batch=1, channels=3, size=256)
        splat, plain = map(outputs_and_gradients, both(triangles, 256))
        assert_all_same(splat(vertices, attributes), plain(vertices, attributes), 1e-10)


@pytest.mark.usefixtures('quickly_compiled')
@pytest.mark.parametrize('far', [10_000.0, 6010.0])
def test_softras_is_the_published_kernel(far):
    """Image, alpha and gradients of a literal transcription, which also holds for the two-sided rule."""
    size, sigma, gamma = 64, 3e-5, 1e-4
    scale = size / 256
    rng = np.random.default_rng(0)
    g = rng.normal(size=(1, size, size, 3)), rng.normal(size=(1, size, size))
    with jax.enable_x64(True):
        vertices, triangles, attributes = scene(2, batch=1, channels=3, size=size)
        triangles[::3] = triangles[::3, ::-1]
        image, alpha, *gradients = softras_kernel.render(
            vertices[0], triangles, attributes[0], size, sigma, gamma, 6000 * scale, scale, far * scale,
            background=0.3, g=(g[0][0], g[1][0]))
        found, pull = jax.vjp(lambda v, a: soft_rasterizer.rasterize(
            v, triangles, a, size, sigma=sigma, gamma=gamma, far=far, background=0.3, grad='softras')[:2],
            vertices, attributes)
        for x, y in zip((*found, *pull(g)), (image, alpha, *gradients), strict=True):
            np.testing.assert_allclose(x[0], y, rtol=0, atol=1e-10 * max(np.abs(y).max(), 1))


@pytest.mark.usefixtures('quickly_compiled')
def test_softras_gradients_lack_only_what_the_place_in_the_triangle_gives():
    with jax.enable_x64(True):
        vertices, triangles, attributes = scene(2, batch=1)
        exact, kernel = (jax.tree.map(np.asarray, outputs_and_gradients(both(triangles, grad=grad)[0])(
            vertices, attributes)[1]) for grad in ('exact', 'softras'))
    np.testing.assert_allclose(exact[1], kernel[1], atol=1e-12)
    np.testing.assert_allclose(exact[0][..., 2], kernel[0][..., 2], atol=1e-10)
    assert np.linalg.norm((exact[0] - kernel[0])[..., :2]) > 0.1 * np.linalg.norm(exact[0][..., :2])


@functools.cache
def exact_icosphere():
    with jax.enable_x64(True):
        vertices, triangles, attributes = scene(3, batch=1, channels=3, size=64)
        results = outputs_and_gradients(both(triangles, 64)[0])(vertices, attributes)
        return (vertices, triangles, attributes), jax.tree.map(np.asarray, results)


@pytest.mark.parametrize('form', FORMS)
def test_float32_is_near_float64(form):
    (vertices, triangles, attributes), exact = exact_icosphere()
    found = outputs_and_gradients(both(triangles, 64, form=form)[0])(
        vertices.astype(np.float32), attributes.astype(np.float32))
    for x, y in zip(found[0][:2], exact[0][:2], strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)
    for x, y in zip(found[1], exact[1], strict=True):
        assert np.linalg.norm(x - y) <= 5e-3 * np.linalg.norm(y)


@pytest.mark.usefixtures('quickly_compiled')
@pytest.mark.parametrize(('form', 'options'), [
    ('cpu', {'window': 5, 'chunk': 7}), ('cpu', {'window': 2}), ('gpu', {'window': 3, 'chunk': 64}),
    ('tpu', {'window': 4, 'chunk': 64}), ('tpu', {})])
def test_window_and_chunk_do_not_matter_and_big_triangles_overflow_exactly(form, options):
    """Huge triangles need many times the precomputed list: the tail is searched."""
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        vertices = np.concatenate([rng.uniform(-200, 200, (2, 12, 3)), rng.uniform(2, 18, (2, 12, 3))], axis=1)
        triangles = np.arange(24, dtype=np.int32).reshape(8, 3)
        attributes = rng.normal(size=(2, 24, 2))
        splat, plain = map(outputs_and_gradients, both(triangles, form=form, **SETTINGS[1], **options))
        assert_all_same(splat(vertices, attributes), plain(vertices, attributes), 1e-10)


@pytest.mark.usefixtures('quickly_compiled')
def test_gradients_are_finite_differences():
    """float64 and a cutoff that leaves nothing out: at the usual one, the model itself jumps at the cut."""
    with jax.enable_x64(True):
        vertices, triangles, attributes = scene(2, batch=1, channels=2)
        rasterize = jax.jit(lambda v, a: soft_rasterizer.rasterize(v, triangles, a, SIZE, sigma=1e-3, gamma=1e-3,
                                                                   cutoff=1e-10))
        loss = jax.jit(lambda v, a: weighted_sum(rasterize(v, a)))
        gradients = outputs_and_gradients(rasterize)(vertices, attributes)[1]
        rng = np.random.default_rng(0)
        for argument, tolerance in ((0, 5e-4), (1, 1e-6)):
            x, gradient = (vertices, attributes)[argument], gradients[argument]
            for _ in range(3):
                direction = rng.normal(size=x.shape)
                step = 1e-8 if argument == 0 else 1e-4
                moved = [[vertices, attributes], [vertices, attributes]]
                for k, sign in enumerate((1, -1)):
                    moved[k][argument] = x + sign * step * direction
                slope = (loss(*moved[0]) - loss(*moved[1])) / (2 * step)
                scale = np.linalg.norm(gradient) * np.linalg.norm(direction) / np.sqrt(x.size)
                np.testing.assert_allclose(slope, (gradient * direction).sum(), rtol=0, atol=tolerance * scale)


HARD_MESHES = {
    'huge': [[-1e7, -1e7, 0], [1e7, -1e7, 5], [3, 1e7, 2]],
    'near': [[-9, -9, 10], [60, -9, 10], [10, 60, 10]],
    'off screen': [[-50, -50, 0], [-40, -50, 0], [-50, -40, 0]],
    'point': [[5, 5, 0], [5, 5, 0], [5, 5, 0]],
    'line': [[2, 2, 0], [8, 8, 1], [5, 5, 2]],
    'sliver': [[2, 2, 0], [18, 2, 1], [10, 2.0005, 2]],
    'behind the eye': [[2, 2, 900], [18, 2, 900], [10, 18, 900]],
    'through the eye': [[2, 2, 6000 * SIZE / 256], [18, 2, 0], [10, 18, 900]],
    'beyond far': [[2, 2, -1000], [18, 2, -1000], [10, 18, -1000]],
    'not finite': [[np.nan, 2, 0], [18, np.inf, 1], [10, 18, 2]],
}


@functools.cache
def compiled_pair(form):
    splat, plain = both(np.arange(6, dtype=np.int32).reshape(2, 3), background=0.5, form=form)
    return outputs_and_gradients(splat), jax.jit(plain)


@pytest.mark.usefixtures('quickly_compiled')
@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('name', HARD_MESHES)
def test_hard_meshes_are_finite_and_equal_all_pairs(name, form):
    vertices = np.array([HARD_MESHES[name] * 2], np.float32)  # twice: coincident triangles, too
    attributes = np.random.default_rng(0).uniform(size=(1, 6, 3)).astype(np.float32)
    splat, plain = compiled_pair(form)
    with jax.debug_nans(name != 'not finite'):  # it looks at arguments, too
        found, gradients = splat(vertices, attributes)
    assert all(np.isfinite(x).all() for x in (*found, *gradients))
    if name in ('huge', 'near', 'off screen', 'point', 'line', 'sliver', 'behind the eye', 'beyond far'):
        assert_same(found, plain(vertices, attributes), 2e-3)
    if name in ('off screen', 'point', 'line', 'not finite'):
        assert (found[1] == 0).all(), 'left out'
        np.testing.assert_array_equal(found[0], 0.5)
    if name == 'huge':
        np.testing.assert_allclose(found[1], 1, atol=1e-6)


def test_bad_vertex_spoils_only_its_triangles():
    vertices, triangles, attributes = scene(1, batch=1, dtype=np.float32)
    broken = np.concatenate([vertices, np.full((1, 1, 3), np.nan, np.float32)], axis=1)
    painted = np.concatenate([attributes, np.ones((1, 1, 4), np.float32)], axis=1)
    more = np.concatenate([triangles, [[0, 1, len(broken[0]) - 1]]]).astype(np.int32)
    assert_same(both(more)[0](broken, painted), both(triangles)[0](vertices, attributes), 1e-5)


@pytest.mark.usefixtures('quickly_compiled')
@pytest.mark.parametrize('shape', [(0, 0), (5, 0)])
def test_empty_mesh_is_background(shape):
    vertices, triangles = np.ones((2, shape[0], 3), np.float32), np.zeros((shape[1], 3), np.int32)
    image, alpha, depth = soft_rasterizer.rasterize(vertices, triangles, vertices, 8, background=(0.1, 0.2, 0.3))
    np.testing.assert_allclose(image, np.broadcast_to(np.float32([0.1, 0.2, 0.3]), (2, 8, 8, 3)))
    assert not alpha.any()
    assert not depth.any()


@pytest.mark.usefixtures('quickly_compiled')
def test_nearer_is_larger_z_and_depth_is_interpolated():
    corners = np.array([[-20, -20], [60, -20], [20, 90]], np.float32)
    vertices = np.stack([np.column_stack([corners, np.full(3, z)]) for z in (-3.0, 4.0)]).reshape(1, 6, 3)
    attributes = np.repeat([[0.0], [1.0]], 3, axis=0)[None]
    triangles = np.arange(6).reshape(2, 3)
    image, alpha, depth = soft_rasterizer.rasterize(
        vertices.astype(np.float32), triangles.astype(np.int32), attributes.astype(np.float32), 16)
    np.testing.assert_allclose(image, 1, atol=1e-5)
    np.testing.assert_allclose(alpha, 1, atol=1e-6)
    np.testing.assert_allclose(depth, 4, atol=1e-3)


@pytest.mark.usefixtures('quickly_compiled')
def test_same_picture_at_every_size():
    """Half the size, half the vertices: the even pixels, as sigma, gamma and camera are relative."""
    vertices, triangles, attributes = scene(1, dtype=np.float32, size=32)
    large = soft_rasterizer.rasterize(vertices, triangles, attributes, 32)
    small = soft_rasterizer.rasterize(vertices / 2, triangles, attributes, 16)
    np.testing.assert_allclose(small[0], large[0][:, ::2, ::2], atol=2e-3)
    np.testing.assert_allclose(small[1], large[1][:, ::2, ::2], atol=2e-3)
    np.testing.assert_allclose(2 * small[2], large[2][:, ::2, ::2], atol=2e-3)


@pytest.mark.usefixtures('quickly_compiled')
def test_batch_is_a_loop():
    vertices, triangles, attributes = scene(1, batch=3, dtype=np.float32)
    together = both(triangles)[0](vertices, attributes)
    alone = [soft_rasterizer.rasterize(v[None], triangles, a[None], SIZE)
             for v, a in zip(vertices, attributes, strict=True)]
    for k in range(3):
        np.testing.assert_allclose(together[k], np.concatenate([x[k] for x in alone]), atol=2e-5)


@pytest.mark.usefixtures('quickly_compiled')
@pytest.mark.parametrize('form', ['gpu', 'tpu'])
def test_groups_of_a_long_batch_are_the_batch(monkeypatch, form):
    """The window list is numbered in int32; a longer one is taken in groups, of which the last is padded."""
    vertices, triangles, attributes = scene(1, batch=5, dtype=np.float32)
    together = soft_rasterizer.rasterize(vertices, triangles, attributes, SIZE, form=form)
    sizes = []
    forward = soft_rasterizer._forward
    monkeypatch.setattr(soft_rasterizer, '_forward', lambda options, form, triangles, packed: (
        sizes.append(len(packed)), forward(options, form, triangles, packed))[1])
    monkeypatch.setattr(windows, 'MOST', 2 * len(triangles) * 25)
    grouped = soft_rasterizer.rasterize(vertices, triangles, attributes, SIZE, form=form, window=4)
    assert set(sizes) == {2}
    assert_same(grouped, together, 2e-5)


@pytest.mark.usefixtures('quickly_compiled')
def test_a_list_too_long_for_its_numbers_gets_larger_windows(monkeypatch):
    vertices, triangles, attributes = scene(1, batch=1, dtype=np.float32)
    expected = soft_rasterizer.rasterize(vertices, triangles, attributes, SIZE)
    monkeypatch.setattr(windows, 'MOST', len(triangles) * 10)
    assert_same(soft_rasterizer.rasterize(vertices, triangles, attributes, SIZE, window=2, chunk=5), expected, 2e-5)


@pytest.mark.usefixtures('quickly_compiled')
@pytest.mark.parametrize(('form', 'mapped'), [('cpu', 'attributes'), ('cpu', 'triangles'), ('tpu', 'attributes')])
def test_vmap_is_a_loop(form, mapped):
    vertices, triangles, attributes = scene(1, batch=6, dtype=np.float32)
    v, a = (x.reshape(3, 2, *x.shape[1:]) for x in (vertices, attributes))
    several = np.stack([triangles, triangles[:, ::-1], triangles[:, [1, 2, 0]]])
    axes, arguments = (0, None, 0), (v, triangles, a)
    if mapped == 'triangles':
        axes, arguments = (0, 0, None), (v, several, a[0])

    @jax.jit
    def gradient(v, t, a):
        return jax.grad(lambda v: weighted_sum(soft_rasterizer.rasterize(v, t, a, SIZE, sigma=1e-3, gamma=1e-3,
                                                                         form=form)))(v)

    together = jax.jit(jax.vmap(gradient, in_axes=axes))(*arguments)
    one = [gradient(*(x if axis is None else x[i] for x, axis in zip(arguments, axes, strict=True)))
           for i in range(3)]
    np.testing.assert_allclose(together, np.stack(one), atol=2e-4 * np.abs(one).max())


@pytest.mark.usefixtures('quickly_compiled')
@pytest.mark.parametrize('form', FORMS)
def test_sharded_batch_needs_no_collectives(form):
    vertices, triangles, attributes = scene(1, batch=8, channels=2, dtype=np.float32)
    mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))

    def forward_and_backward(v, a):
        outputs, pull = jax.vjp(lambda v, a: soft_rasterizer.rasterize(v, triangles, a, SIZE, form=form), v, a)
        return outputs, pull(jax.tree.map(jnp.ones_like, outputs))

    sharded = jax.jit(jax.shard_map(forward_and_backward, mesh=mesh, in_specs=P('data'), out_specs=P('data')))
    placed = jax.device_put((vertices, attributes), jax.NamedSharding(mesh, P('data')))
    compiled = sharded.lower(*placed).compile()
    text = compiled.as_text()
    assert not [name for name in ('all-gather', 'all-reduce', 'all-to-all', 'collective-permute') if name in text]
    expected = jax.jit(forward_and_backward)(vertices, attributes)
    for x, y in zip(jax.tree.leaves(compiled(*placed)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4 * max(1, np.abs(y).max()))


def test_each_platform_gets_its_form():
    vertices, triangles, attributes = scene(1, batch=2, dtype=np.float32)
    step = jax.jit(jax.grad(lambda v: weighted_sum(soft_rasterizer.rasterize(v, triangles, attributes, SIZE))))
    texts = {platform: step.trace(vertices).lower(lowering_platforms=(platform,)).as_text()
             for platform in ('cpu', 'cuda', 'tpu')}
    assert {platform: 'stablehlo.sort' in text for platform, text in texts.items()} == {
        'cpu': False, 'cuda': False, 'tpu': True}
    # Only the CPU's form has stages: branches that hide a computation from its readers.
    assert texts['cpu'].count('stablehlo.case') > texts['cuda'].count('stablehlo.case')
    # A TPU adds rows of a tile or of a vertex, never single fragments.
    sums = re.findall(r'stablehlo\.scatter.*?\}\) : \(tensor<\S+xf32>, tensor<\S+xi32>, tensor<(\S+)xf32>',
                      texts['tpu'], re.DOTALL)
    assert sums
    assert all(int(shape.split('x')[-1]) > 1 for shape in sums), sums


def test_memory_does_not_grow_with_triangles_times_pixels():
    """The issue's bound at full size: forward and backward of 8 images, compiled, not run."""
    side = 210
    corner = np.arange(side * side).reshape(side, side)[:-1, :-1].ravel()
    triangles = np.concatenate([np.stack([corner, corner + 1, corner + side], 1),
                                np.stack([corner + 1, corner + side + 1, corner + side], 1)]).astype(np.int32)
    assert len(triangles) > 86_907
    shapes = [jax.ShapeDtypeStruct((8, side * side, 3), jnp.float32)] * 2
    step = jax.jit(jax.grad(lambda v, a: sum(
        x.sum() for x in soft_rasterizer.rasterize(v, triangles, a, 256)), argnums=(0, 1)))
    assert step.lower(*shapes).compile().memory_analysis().temp_size_in_bytes <= 64e6


@pytest.mark.parametrize(('version', 'platform', 'warns'), [
    ('0.10.1', 'cuda', False), ('0.10.2', 'cuda', True), ('0.11.0', 'cuda', True), ('0.11.1', 'cuda', False),
    ('0.11.0rc1', 'cpu', False),
    ('0.11.0', 'rocm', False)])
def test_slow_releases_for_cuda_are_named(monkeypatch, recwarn, version, platform, warns):
    monkeypatch.setattr(cuda_scatter.jaxlib, '__version__', version)
    monkeypatch.setattr(cuda_scatter.jax, 'default_backend', lambda: 'gpu')
    monkeypatch.setattr(cuda_scatter, '_is_cuda', lambda: platform == 'cuda')
    warnings.simplefilter('always')
    cuda_scatter.warn_if_slow.__wrapped__()
    assert [('0.11.1' in str(w.message), '0.10.1' in str(w.message)) for w in recwarn] == [(True, True)] * warns


def test_wrong_shapes_are_named():
    vertices, triangles, attributes = scene(1)
    with pytest.raises(ValueError, match=r'attributes: found shape .* want \(2, 42, C\)'):
        soft_rasterizer.rasterize(vertices, triangles, attributes[:1], SIZE)


@pytest.mark.parametrize(('options', 'words'), [
    ({'grad': 'none'}, 'grad: found'), ({'form': 'npu'}, 'form: found'), ({'sigma': 0.0}, 'sigma: found 0.0'),
    ({'gamma': -1.0}, 'gamma: found'), ({'cutoff': 0.7}, 'cutoff: found 0.7, want more than 0 and less than 0.5'),
    ({'background': (0.0, 1.0)}, 'background: found 2 numbers, want one, or 4')])
def test_wrong_options_are_named(options, words):
    vertices, triangles, attributes = scene(1)
    with pytest.raises(ValueError, match=words):
        soft_rasterizer.rasterize(vertices, triangles, attributes, SIZE, **options)


@pytest.mark.usefixtures('quickly_compiled')
def test_types_are_promoted_and_numbers_out_of_range_stay_in_their_image():
    vertices, triangles, attributes = scene(1, dtype=np.float32)
    half = soft_rasterizer.rasterize(vertices, triangles, attributes.astype(jnp.bfloat16), SIZE)
    assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in half)
    broken = np.concatenate([triangles, [[0, 1, -1]]])
    other = attributes.copy()
    other[0] += 1
    first, second = (soft_rasterizer.rasterize(vertices, broken, a, SIZE, form='tpu')[0][1]
                     for a in (attributes, other))
    np.testing.assert_array_equal(first, second)


@pytest.mark.usefixtures('quickly_compiled')
def test_jit_is_no_jit():
    vertices = np.array([[[1, 1, 0], [6, 2, 1], [3, 6, 2]]], np.float32)
    triangles, attributes = np.array([[0, 1, 2]], np.int32), np.eye(3, dtype=np.float32)[None]
    compiled = soft_rasterizer.rasterize(vertices, triangles, attributes, 8, window=8)
    with jax.disable_jit():
        eager = soft_rasterizer.rasterize(*map(jnp.asarray, (vertices, triangles, attributes)), 8, window=8)
    assert_same(eager, compiled, 1e-4)
