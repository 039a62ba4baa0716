import numpy as np
import pytest

from benchmarks.peers import zbuffer

SIZE = 24


def _naive(vertices, triangles, attributes):
    """Every triangle at every pixel: depth, number and blend of the one with the largest z."""
    image = np.zeros((SIZE, SIZE, attributes.shape[-1]))
    depth, number = np.full((SIZE, SIZE), -np.inf), np.full((SIZE, SIZE), -1)
    for y, x in np.ndindex(SIZE, SIZE):
        for f, corners in enumerate(triangles):
            places = vertices[corners].astype(float)
            system = np.stack([places[:, 0], places[:, 1], np.ones(3)])
            if abs(np.linalg.det(system)) < 1e-9:
                continue
            weights = np.linalg.solve(system, [x, y, 1])
            z = weights @ places[:, 2]
            if (weights >= 0).all() and z > depth[y, x]:
                depth[y, x], number[y, x], image[y, x] = z, f, weights @ attributes[corners]
    return image, depth, number


@pytest.fixture(scope='module')
def scene():
    rng = np.random.default_rng(1)
    vertices = rng.uniform(-6, 30, (2, 30, 3)).astype(np.float32)
    triangles = rng.integers(0, 30, (9, 3)).astype(np.int32)
    triangles[0] = 4  # of no area
    return vertices, triangles, rng.uniform(size=(2, 30, 4)).astype(np.float32)


@pytest.mark.parametrize('parallel', [False, True])
def test_equals_all_triangles_at_all_pixels(scene, parallel):
    vertices, triangles, attributes = scene
    image, depth, number = zbuffer.rasterize(vertices, triangles, attributes, SIZE, parallel=parallel)
    assert image.shape == (2, SIZE, SIZE, 4)
    for i in range(2):
        want_image, want_depth, want_number = _naive(vertices[i], triangles, attributes[i])
        assert 0 < (want_number < 0).mean() < 1
        np.testing.assert_array_equal(number[i], want_number)
        np.testing.assert_allclose(depth[i], want_depth, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(image[i], want_image, atol=1e-4)


def test_both_sides_of_a_triangle_are_drawn():
    vertices = np.array([[[2, 2, 5], [12, 2, 5], [2, 12, 5]]], np.float32)
    attributes = np.ones((1, 3, 1), np.float32)
    front, *_ = zbuffer.rasterize(vertices, np.array([[0, 1, 2]], np.int32), attributes, SIZE)
    back, *_ = zbuffer.rasterize(vertices, np.array([[0, 2, 1]], np.int32), attributes, SIZE)
    np.testing.assert_array_equal(front, back)
    assert front.sum() == 66  # pixel centres in the closed triangle: 11 + 10 + .. + 1
