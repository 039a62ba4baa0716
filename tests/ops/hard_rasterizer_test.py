"""The z-buffer against a loop over triangles and against the soft rasterizer's limit; which vertices are seen."""

import jax
import numpy as np
import pytest
from mesh_scenes import icosphere, scene

from talkinghead_jax.ops import hard_rasterizer, soft_rasterizer


def naive(vertices, triangles, colours, size, background):
    """One triangle after the other at all pixels."""
    eye = 6000 * size / 256
    y, x = np.mgrid[:size, :size]
    depth, number = np.full((size, size), -np.inf), np.full((size, size), -1)
    image = np.full((size, size, colours.shape[1]), float(background))
    for f, triangle in enumerate(triangles):
        corners = vertices[triangle].astype(np.float64)
        matrix = np.linalg.inv(np.concatenate([corners[:, :2].T, np.ones((1, 3))]))
        w = np.stack([x, y, np.ones_like(x)], -1) @ matrix.T
        z = eye - 1 / (w / (eye - corners[:, 2])).sum(-1)
        nearer = (w >= 0).all(-1) & (z >= depth)
        depth[nearer], number[nearer] = z[nearer], f
        image[nearer] = (w @ colours[triangle].astype(np.float64))[nearer]
    return image, np.where(number >= 0, depth, 0), number


@pytest.mark.parametrize('size', [24, 64])
def test_equals_a_loop_over_triangles(size):
    vertices, triangles, colours = scene(2, batch=2, channels=3, dtype=np.float32, size=size)
    found = hard_rasterizer.rasterize(vertices, triangles, colours, size, background=0.25)
    for b in range(2):
        image, depth, number = naive(vertices[b], triangles, colours[b], size, 0.25)
        np.testing.assert_array_equal(found.triangle[b], number)
        np.testing.assert_allclose(found.depth[b], depth, atol=1e-4)
        np.testing.assert_allclose(found.image[b], image, atol=1e-3)


@pytest.mark.usefixtures('quickly_compiled')
def test_is_the_limit_of_the_soft_rasterizer():
    vertices, triangles, colours = scene(1, batch=1, channels=3, dtype=np.float32, size=48)
    hard = hard_rasterizer.rasterize(vertices, triangles, colours, 48)
    image, alpha, depth = soft_rasterizer.rasterize(vertices, triangles, colours, 48, sigma=1e-8, gamma=1e-6)
    drawn = np.asarray(hard.triangle >= 0)
    np.testing.assert_array_equal(np.asarray(alpha) > 0.5, drawn)
    np.testing.assert_allclose(np.asarray(hard.image)[drawn], np.asarray(image)[drawn], atol=2e-2)
    np.testing.assert_allclose(np.asarray(hard.depth)[drawn], np.asarray(depth)[drawn], atol=2e-2)


@pytest.mark.usefixtures('quickly_compiled')
def test_gradients_are_finite_differences_of_attributes_and_vertices():
    with jax.enable_x64(True):
        vertices, triangles, colours = scene(1, batch=1, channels=2, size=16)
        weights = np.random.default_rng(0).normal(size=(1, 16, 16, 2))

        @jax.jit
        def loss(v, c):
            return (hard_rasterizer.rasterize(v, triangles, c, 16).image * weights).sum()

        gradients = jax.grad(loss, argnums=(0, 1))(vertices, colours)
        rng = np.random.default_rng(1)
        for argument in (0, 1):
            x = (vertices, colours)[argument]
            direction, step = rng.normal(size=x.shape), 1e-7
            ends = [[vertices, colours], [vertices, colours]]
            ends[0][argument], ends[1][argument] = x + step * direction, x - step * direction
            slope = (loss(*ends[0]) - loss(*ends[1])) / (2 * step)
            np.testing.assert_allclose(slope, (gradients[argument] * direction).sum(), rtol=1e-5)


@pytest.mark.usefixtures('quickly_compiled')
def test_the_same_depth_shows_the_larger_number_and_empty_meshes_are_background():
    corners = np.array([[[-9, -9, 1], [30, -9, 1], [5, 40, 1]] * 2], np.float32)
    triangles = np.arange(6, dtype=np.int32).reshape(2, 3)
    found = hard_rasterizer.rasterize(corners, triangles, np.ones((1, 6, 1), np.float32), 8)
    assert (np.asarray(found.triangle) == 1).all()
    for count in (0, 6):
        empty = hard_rasterizer.rasterize(corners[:, :count], np.zeros((0, 3), np.int32),
                                          np.ones((1, count, 2), np.float32), 8, background=0.5)
        assert (np.asarray(empty.triangle) == -1).all()
        assert (np.asarray(empty.image) == 0.5).all()


@pytest.mark.usefixtures('quickly_compiled')
def test_a_nearer_triangle_hides_vertices_and_a_back_is_not_seen():
    vertices = np.array([[[0, 0, 0], [10, 0, 0], [0, 10, 0], [-9, -9, 5], [30, -9, 5], [-9, 30, 5]]], np.float32)
    behind, before = [0, 1, 2], [3, 4, 5]

    def seen(*triangles):
        return np.asarray(hard_rasterizer.vertex_visibility(vertices, np.array(triangles, np.int32), 32))[0, :3]

    np.testing.assert_array_equal(seen(behind), np.ones(3))
    np.testing.assert_array_equal(seen(behind, before), np.zeros(3))
    np.testing.assert_array_equal(seen(behind[::-1]), np.zeros(3))
    outside = hard_rasterizer.vertex_visibility(vertices, np.array([behind, before], np.int32), 32)[0, 3:]
    np.testing.assert_array_equal(outside, np.zeros(3))


def test_hard_meshes_are_left_out_or_drawn_without_nan():
    far = -1e4
    corners = np.array([[[np.nan, 2, 0], [18, np.inf, 1], [10, 18, 2], [2, 2, far], [18, 2, far], [10, 18, far],
                         [5, 5, 0], [5, 5, 0], [5, 5, 0], [-1e7, -1e7, 0], [1e7, -1e7, 0], [3, 1e7, 0]]], np.float32)
    triangles = np.arange(12, dtype=np.int32).reshape(4, 3)
    found = hard_rasterizer.rasterize(corners, triangles, np.ones((1, 12, 1), np.float32), 20)
    assert (np.asarray(found.triangle) == 3).all()
    assert all(np.isfinite(x).all() for x in found)
    seen = hard_rasterizer.vertex_visibility(corners, triangles, 20)
    assert np.isfinite(seen).all()
    with pytest.raises(ValueError, match='attributes: found shape'):
        hard_rasterizer.rasterize(corners, triangles, np.ones((2, 12, 1), np.float32), 20)


def test_a_sphere_shows_its_front_half():
    points, triangles = icosphere(4)
    triangles = triangles[:, ::-1] if _normals_point_inwards(points, triangles) else triangles
    seen = np.asarray(hard_rasterizer.vertex_visibility(
        (points * 100 + [128, 128, 0])[None].astype(np.float32), triangles, 256))[0]
    clear = np.abs(points[:, 2]) > 0.05  # the rim may fall either way
    np.testing.assert_array_equal(seen[clear], (points[clear, 2] > 0).astype(np.float32))


def _normals_point_inwards(points, triangles):
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return (np.cross(b - a, c - a) * a).sum(-1).mean() < 0


@pytest.mark.usefixtures('quickly_compiled')
def test_vmap_and_batch_agree():
    vertices, triangles, colours = scene(1, batch=3, channels=2, dtype=np.float32)
    together = hard_rasterizer.rasterize(vertices, triangles, colours, 20)
    mapped = jax.vmap(lambda v, c: hard_rasterizer.rasterize(v[None], triangles, c[None], 20))(vertices, colours)
    for x, y in zip(together, mapped, strict=True):
        np.testing.assert_allclose(x, y[:, 0], atol=1e-5)
