"""Sketches and masks against naive NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax.geometry import face, sketch

SIZE = 32


def faces(count=2):
    return (face.TEMPLATE + np.random.default_rng(0).normal(scale=2, size=(count, 68, 3))).astype(np.float32)


def naive(landmarks, size, thickness):
    points = (landmarks[:, :2].astype(np.float64) + 0.5) * size / 256 - 0.5
    half = max(thickness * size / 256, 1) / 2
    picture = np.zeros((size, size))
    lines = [range(17), range(17, 22), range(22, 27), range(27, 31), range(31, 36), [*range(36, 42), 36],
             [*range(42, 48), 42], [*range(48, 60), 48], [*range(60, 68), 60]]
    for line in lines:
        line = list(line)
        for i, j in itertools.pairwise(line):
            a, b = points[i], points[j]
            for y, x in np.ndindex(size, size):
                p = np.array([x, y])
                t = np.clip((p - a) @ (b - a) / max((b - a) @ (b - a), 1e-6), 0, 1)
                distance = np.linalg.norm(p - a - t * (b - a))
                picture[y, x] = max(picture[y, x], np.clip(half + 0.5 - distance, 0, 1))
    return picture


@pytest.mark.parametrize('thickness', [2.0, 16.0])
def test_sketch_equals_naive_strokes(thickness):
    landmarks = faces()
    drawn = sketch.draw(landmarks, SIZE, thickness)
    assert drawn.dtype == jnp.float32
    assert drawn.shape == (2, SIZE, SIZE)
    np.testing.assert_allclose(drawn[0], naive(landmarks[0], SIZE, thickness), atol=1e-4)


def test_sketch_takes_any_leading_axes_two_coordinates_and_jit():
    landmarks = faces(6)
    drawn = sketch.draw(landmarks, SIZE)
    other = jax.jit(lambda l: sketch.draw(l, SIZE))(landmarks.reshape(3, 2, 68, 3)[..., :2])
    np.testing.assert_allclose(other.reshape(drawn.shape), drawn, atol=1e-5)
    np.testing.assert_allclose(sketch.draw(landmarks[1], SIZE), drawn[1], atol=1e-5)


def test_sketch_gradient_is_that_of_finite_differences_and_finite_where_points_meet():
    with jax.enable_x64(False):
        landmarks = jnp.asarray(faces(1)[..., :2])
        target = np.random.default_rng(1).uniform(size=(1, SIZE, SIZE)).astype(np.float32)
        loss = jax.jit(lambda l: (sketch.draw(l, SIZE, 30.0) * target).sum())
        gradient = jax.jit(jax.grad(loss))(landmarks)
        direction = np.random.default_rng(2).normal(size=landmarks.shape).astype(np.float32)
        slope = (loss(landmarks + 0.02 * direction) - loss(landmarks - 0.02 * direction)) / 0.04
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=0.05, atol=0.02)
        together = jnp.zeros_like(landmarks) + 100
        assert np.isfinite(jax.grad(loss)(together)).all()


def test_mirrored_face_has_a_mirrored_sketch():
    landmarks = faces(1)
    np.testing.assert_allclose(sketch.draw(face.mirror(landmarks), SIZE), sketch.draw(landmarks, SIZE)[..., ::-1],
                               atol=1e-4)


@pytest.mark.parametrize('size', [64, 256])
def test_mask_equals_naive_boxes(size):
    landmarks = faces(1)[0]
    crop = (np.arange(size) + 0.5) * 256 / size - 0.5
    expected = np.zeros((size, size), bool)
    for points, margin in ((range(36, 42), 2), (range(42, 48), 2), ((48, 50, 51, 54, 57), 5)):
        box = landmarks[list(points), :2]
        low, high = box.min(0) - margin, box.max(0) + margin
        expected |= np.outer((crop >= low[1]) & (crop <= high[1]), (crop >= low[0]) & (crop <= high[0]))
    mask = jax.jit(lambda l: sketch.eye_mouth_mask(l, size))(landmarks)
    np.testing.assert_array_equal(mask, expected)
    assert 0.02 < mask.mean() < 0.2
    np.testing.assert_array_equal(sketch.eye_mouth_mask(landmarks[None, None], size)[0, 0], mask)
