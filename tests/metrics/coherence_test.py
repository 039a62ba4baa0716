"""Metrics of coherence over time, against loops over pixels and films made for the purpose."""

import jax
import numpy as np
import pytest
from scipy.spatial import ConvexHull

from talkinghead_jax.geometry import face
from talkinghead_jax.metrics import temporal

FLICKER, DIFFERENCE = map(jax.jit, (temporal.background_flicker, temporal.temporal_difference_error))

pytestmark = pytest.mark.usefixtures('quick_compilation')
RNG = np.random.default_rng(0)
SIZE = 64
FACE = (face.TEMPLATE[:, :2] - 127.5) * 0.1 + 31.5  # a small one, in the middle of 64 px


def landmarks(frames, move=(0.0, 0.0)):
    return (FACE + np.arange(frames)[:, None, None] * np.array(move)).astype(np.float32)


def noise(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def hull_mask(points):
    """(SIZE, SIZE) bool: the pixels in the convex hull of some points."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    sides = ConvexHull(points).equations
    return (sides[:, 0, None, None] * columns + sides[:, 1, None, None] * rows + sides[:, 2, None, None] <= 0).all(0)


def moving_face(background, points):
    """The background with other pixels in each frame where the face is: in the hull of its points."""
    film = background.copy()
    for frame, of in zip(film, points, strict=True):
        inside = hull_mask(of)
        frame[inside] = noise(inside.sum(), 3)
    return film


def test_temporal_difference_error_is_the_loop():
    images, targets = noise(4, 5, 6, 3), noise(4, 5, 6, 3)
    want = []
    for t in range(1, 4):
        total = 0
        for place in np.ndindex(5, 6, 3):
            total += abs((int(images[t][place]) - int(images[t - 1][place]))
                         - (int(targets[t][place]) - int(targets[t - 1][place])))
        want.append(total / 90)
    np.testing.assert_allclose(DIFFERENCE(images, targets), want, rtol=1e-6)


def test_a_constant_error_is_no_temporal_one():
    targets = noise(3, 8, 8, 3) // 2
    assert (DIFFERENCE(targets + np.uint8(100), targets) == 0).all()


def test_the_largest_difference_does_not_wrap_around():
    black, white = (np.full((1, 8, 8, 3), value, np.uint8) for value in (0, 255))
    images, targets = np.concatenate([black, white]), np.concatenate([white, black])
    assert DIFFERENCE(images, targets) == 510


def test_a_moving_face_before_a_still_background_is_no_flicker():
    points = landmarks(5, (1.0, 0.5))
    still = np.repeat(noise(1, SIZE, SIZE, 3), 5, axis=0)
    images, targets = moving_face(still, points), moving_face(still, points)
    assert (DIFFERENCE(images, targets) > 0).all()
    assert (FLICKER(images, targets, points) == 0).all()


def test_flicker_is_the_amount_that_is_added_outside_the_face():
    points = landmarks(5, (1.0, 0.5))
    still = np.repeat(noise(1, SIZE, SIZE, 3) // 2 + 50, 5, axis=0)
    flickering = still + (np.arange(5) % 2 * 7)[:, None, None, None].astype(np.uint8)
    images, targets = moving_face(flickering, points), moving_face(still, points)
    np.testing.assert_array_equal(FLICKER(images, targets, points), 7)
    np.testing.assert_array_equal(FLICKER(targets, images, points), -7)


def test_flicker_is_the_loop_over_the_background():
    points = landmarks(3, (2.0, 0.0))
    images, targets = noise(3, SIZE, SIZE, 3), noise(3, SIZE, SIZE, 3)
    head = np.asarray(temporal.head_mask(points, (SIZE, SIZE)))
    want = []
    for t in (1, 2):
        values = [abs(int(images[t, y, x, c]) - int(images[t - 1, y, x, c]))
                  - abs(int(targets[t, y, x, c]) - int(targets[t - 1, y, x, c]))
                  for y, x, c in np.ndindex(SIZE, SIZE, 3) if not head[t, y, x] and not head[t - 1, y, x]]
        want.append(np.mean(values))
    np.testing.assert_allclose(FLICKER(images, targets, points), want, rtol=1e-5)


def test_a_head_that_fills_the_picture_leaves_no_background():
    film = noise(2, SIZE, SIZE, 3)
    close = (FACE - 31.5) * 5 + 31.5
    assert np.isnan(FLICKER(film, film, np.stack([close, close]))).all()


def test_landmarks_are_in_pixels_of_the_picture_as_it_comes():
    points = landmarks(2, (1.0, 0.0))
    film, other = noise(2, SIZE, SIZE, 3), noise(2, SIZE, SIZE, 3)
    larger = [x.repeat(8, axis=1).repeat(8, axis=2) for x in (film, other)]  # 512 px: shrunk to 256, 4 px a pixel
    want = FLICKER(*(x.repeat(4, axis=1).repeat(4, axis=2) for x in (film, other)),
                                       (points + 0.5) * 4 - 0.5)
    got = FLICKER(*larger, (points + 0.5) * 8 - 0.5)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_head_is_a_hull_with_hair_and_neck():
    """The same region, its corners moved in the plane and joined by Qhull."""
    points = landmarks(1, (0.0, 0.0))[0]
    turned = (points - 31.5) @ np.array([[0.9, 0.3], [-0.3, 0.9]]) + 31.5
    turned[30] += 4, 0  # a nose that looks aside
    height = turned[8] - turned[27]
    back = turned[[0, 16]].mean(0) - turned[30]
    corners = np.concatenate([turned + k * height + b * back for k in (-1, 0, 1) for b in (0, 1)])
    grown = [corners + 0.25 * np.linalg.norm(height) * np.array([np.cos(a), np.sin(a)])
             for a in np.linspace(0, 2 * np.pi, 100)]
    want = hull_mask(np.concatenate(grown))
    got = np.asarray(jax.jit(temporal.head_mask, static_argnums=1)(turned[None], (SIZE, SIZE)))[0]
    assert (want & ~got).sum() == 0  # 64 directions circumscribe the hull
    assert (got & ~want).sum() < 0.02 * want.sum()
    assert 0.1 < want.mean() < 0.6
