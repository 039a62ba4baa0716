"""The splat against the all-pairs reference, its gradients, and meshes that break rasterizers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from talkinghead_jax.ops import soft_rasterizer, soft_rasterizer_reference

SIZE = 20
SETTINGS = ({'sigma': 1e-4, 'gamma': 1e-4}, {'sigma': 1e-2, 'gamma': 3e-3, 'background': 0.3})


def icosphere(divisions):
    """Unit sphere: (V, 3) vertices, (20 * 4 ** divisions, 3) triangles."""
    golden = (1 + 5 ** 0.5) / 2
    points = [(-1, golden, 0), (1, golden, 0), (-1, -golden, 0), (1, -golden, 0), (0, -1, golden), (0, 1, golden),
              (0, -1, -golden), (0, 1, -golden), (golden, 0, -1), (golden, 0, 1), (-golden, 0, -1), (-golden, 0, 1)]
    points = [np.array(p) / np.linalg.norm(p) for p in points]
    faces = [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2),
             (10, 7, 6), (7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5), (2, 4, 11),
             (6, 2, 10), (8, 6, 7), (9, 8, 1)]
    for _ in range(divisions):
        middles, finer = {}, []
        for face in faces:
            between = []
            for i, j in zip(face, face[1:] + face[:1], strict=True):
                key = min(i, j), max(i, j)
                if key not in middles:
                    middle = points[i] + points[j]
                    middles[key] = len(points)
                    points.append(middle / np.linalg.norm(middle))
                between.append(middles[key])
            a, b, c = between
            finer += [(face[0], a, c), (a, face[1], b), (c, b, face[2]), (a, b, c)]
        faces = finer
    return np.array(points), np.array(faces, np.int32)


def scene(divisions=1, batch=2, channels=4, dtype=np.float64, size=SIZE):
    """A bumpy sphere in the middle of the image."""
    rng = np.random.default_rng(divisions)
    points, triangles = icosphere(divisions)
    points = points * rng.uniform(0.8, 1.1, (batch, len(points), 1)) * 0.42 * size
    vertices = points + np.array([size / 2 + 0.123, size / 2 - 0.271, 3])
    return vertices.astype(dtype), triangles, rng.normal(size=(batch, len(points[0]), channels)).astype(dtype)


def weighted_sum(outputs):
    """A number that depends on every output."""
    rng = np.random.default_rng(5)
    return sum((x * rng.normal(size=x.shape).astype(x.dtype)).sum() for x in outputs)


def both(triangles, size=SIZE, **settings):
    splat = jax.jit(lambda v, a: soft_rasterizer.rasterize(v, triangles, a, size, **settings))
    plain = functools.partial(soft_rasterizer_reference.rasterize, size=size)
    return splat, lambda v, a: plain(v, triangles, a, **{k: s for k, s in settings.items()
                                                         if k not in ('window', 'chunk')})


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


@pytest.mark.parametrize(('divisions', 'settings'), [(1, SETTINGS[0]), (2, SETTINGS[1])])
def test_equals_all_pairs_in_image_and_gradients(divisions, settings):
    with jax.enable_x64(True):
        vertices, triangles, attributes = scene(divisions)
        splat, plain = map(outputs_and_gradients, both(triangles, **settings))
        found = splat(vertices, attributes)
        assert 0.3 < found[0][1].mean() < 0.9, 'the scene shows both mesh and background'
        assert_all_same(found, plain(vertices, attributes), 1e-10)


def test_float32_is_near_float64():
    vertices, triangles, attributes = scene(2)
    with jax.enable_x64(True):
        exact = both(triangles)[1](vertices, attributes)
    found = both(triangles)[0](vertices.astype(np.float32), attributes.astype(np.float32))
    np.testing.assert_allclose(found[0], exact[0], atol=2e-3)  # one e-fold a pixel of depth
    np.testing.assert_allclose(found[1], exact[1], atol=1e-3)


@pytest.mark.parametrize('options', [{'window': 5, 'chunk': 7}, {'window': 2}])
def test_window_and_chunk_do_not_matter_and_big_triangles_overflow_exactly(options):
    """With small windows, huge triangles need many times the precomputed list: the tail is searched."""
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        vertices = np.concatenate([rng.uniform(-200, 200, (2, 12, 3)), rng.uniform(2, 18, (2, 12, 3))], axis=1)
        triangles = np.arange(24, dtype=np.int32).reshape(8, 3)
        attributes = rng.normal(size=(2, 24, 2))
        splat, plain = map(outputs_and_gradients, both(triangles, **SETTINGS[1], **options))
        assert_all_same(splat(vertices, attributes), plain(vertices, attributes), 1e-10)


def test_gradients_are_finite_differences():
    """Where the model is smooth: float64, a cutoff that leaves nothing out, no pixel at a rim."""
    with jax.enable_x64(True):
        vertices, triangles, attributes = scene(1, batch=1, channels=2)
        rasterize = jax.jit(lambda v, a: soft_rasterizer.rasterize(v, triangles, a, SIZE, sigma=1e-3, gamma=1e-3,
                                                                   cutoff=1e-10))
        loss = jax.jit(lambda v, a: weighted_sum(rasterize(v, a)))
        gradients = outputs_and_gradients(rasterize)(vertices, attributes)[1]
        rng = np.random.default_rng(0)
        for argument, (x, gradient) in enumerate(zip((vertices, attributes), gradients, strict=True)):
            direction = rng.normal(size=x.shape)
            step = 1e-7
            moved = [[vertices, attributes], [vertices, attributes]]
            for k, sign in enumerate((1, -1)):
                moved[k][argument] = x + sign * step * direction
            slope = (loss(*moved[0]) - loss(*moved[1])) / (2 * step)
            np.testing.assert_allclose(slope, (gradient * direction).sum(), rtol=2e-3)


HARD_MESHES = {
    'huge': [[-1e7, -1e7, 0], [1e7, -1e7, 5], [3, 1e7, 2]],
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
def compiled_pair():
    splat, plain = both(np.arange(6, dtype=np.int32).reshape(2, 3), background=0.5)
    return outputs_and_gradients(splat), plain


@pytest.mark.parametrize('name', HARD_MESHES)
def test_hard_meshes_are_finite_and_equal_all_pairs(name):
    vertices = np.array([HARD_MESHES[name] * 2], np.float32)  # twice: coincident triangles, too
    attributes = np.random.default_rng(0).uniform(size=(1, 6, 3)).astype(np.float32)
    splat, plain = compiled_pair()
    found, gradients = splat(vertices, attributes)
    assert all(np.isfinite(x).all() for x in (*found, *gradients))
    if name in ('huge', 'off screen', 'point', 'line', 'sliver', 'behind the eye', 'beyond far'):
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


@pytest.mark.parametrize('shape', [(0, 0), (5, 0)])
def test_empty_mesh_is_background(shape):
    vertices, triangles = np.ones((2, shape[0], 3), np.float32), np.zeros((shape[1], 3), np.int32)
    image, alpha, depth = soft_rasterizer.rasterize(vertices, triangles, vertices, 8, background=(0.1, 0.2, 0.3))
    np.testing.assert_allclose(image, np.broadcast_to(np.float32([0.1, 0.2, 0.3]), (2, 8, 8, 3)))
    assert not alpha.any()
    assert not depth.any()


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


def test_same_picture_at_every_size():
    """Half the size, half the vertices: the even pixels, as sigma, gamma and camera are relative."""
    vertices, triangles, attributes = scene(1, dtype=np.float32, size=32)
    large = soft_rasterizer.rasterize(vertices, triangles, attributes, 32)
    small = soft_rasterizer.rasterize(vertices / 2, triangles, attributes, 16)
    np.testing.assert_allclose(small[0], large[0][:, ::2, ::2], atol=2e-3)
    np.testing.assert_allclose(small[1], large[1][:, ::2, ::2], atol=2e-3)
    np.testing.assert_allclose(2 * small[2], large[2][:, ::2, ::2], atol=2e-3)


def test_batch_is_a_loop():
    vertices, triangles, attributes = scene(1, batch=3, dtype=np.float32)
    together = both(triangles)[0](vertices, attributes)
    alone = [soft_rasterizer.rasterize(v[None], triangles, a[None], SIZE)
             for v, a in zip(vertices, attributes, strict=True)]
    for k in range(3):
        np.testing.assert_allclose(together[k], np.concatenate([x[k] for x in alone]), atol=2e-5)


def test_groups_of_a_long_batch_are_the_batch(monkeypatch):
    """The window list is numbered in int32; a longer one is taken in groups."""
    vertices, triangles, attributes = scene(1, batch=4, dtype=np.float32)
    together = soft_rasterizer.rasterize(vertices, triangles, attributes, SIZE)
    monkeypatch.setattr(soft_rasterizer, 'MOST_WINDOWS', 2 * len(triangles) * 25)
    grouped = soft_rasterizer.rasterize(vertices, triangles, attributes, SIZE, window=4)
    assert_same(grouped, together, 2e-5)


def test_sharded_batch_needs_no_collectives():
    vertices, triangles, attributes = scene(1, batch=8, channels=2, dtype=np.float32)
    mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))

    def forward_and_backward(v, a):
        outputs, pull = jax.vjp(lambda v, a: soft_rasterizer.rasterize(v, triangles, a, SIZE), v, a)
        return outputs, pull(jax.tree.map(jnp.ones_like, outputs))

    sharded = jax.jit(jax.shard_map(forward_and_backward, mesh=mesh, in_specs=P('data'), out_specs=P('data')))
    placed = jax.device_put((vertices, attributes), jax.NamedSharding(mesh, P('data')))
    compiled = sharded.lower(*placed).compile()
    text = compiled.as_text()
    assert not [name for name in ('all-gather', 'all-reduce', 'all-to-all', 'collective-permute') if name in text]
    expected = jax.jit(forward_and_backward)(vertices, attributes)
    for x, y in zip(jax.tree.leaves(compiled(*placed)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4 * max(1, np.abs(y).max()))


def test_wrong_shapes_are_named():
    vertices, triangles, attributes = scene(1)
    with pytest.raises(ValueError, match=r'attributes: found shape .* want \(2, 42, C\)'):
        soft_rasterizer.rasterize(vertices, triangles, attributes[:1], SIZE)


def test_jit_is_no_jit():
    vertices = np.array([[[1, 1, 0], [6, 2, 1], [3, 6, 2]]], np.float32)
    triangles, attributes = np.array([[0, 1, 2]], np.int32), np.eye(3, dtype=np.float32)[None]
    compiled = soft_rasterizer.rasterize(vertices, triangles, attributes, 8, window=8)
    with jax.disable_jit():
        eager = soft_rasterizer.rasterize(*map(jnp.asarray, (vertices, triangles, attributes)), 8, window=8)
    assert_same(eager, compiled, 1e-4)
