import jax.numpy as jnp
import numpy as np

from talkinghead_jax.geometry import face
from talkinghead_jax.metrics import landmark

RNG = np.random.default_rng(9)
FACES = jnp.float32(face.TEMPLATE + RNG.normal(size=(2, 10, 68, 3)))


def test_lmd_ignores_position_and_depth_but_mouth_error_does_not():
    shift = jnp.broadcast_to(jnp.array([3.0, 4.0, 0.0]), FACES.shape)
    np.testing.assert_allclose(landmark.lmd(FACES + shift, FACES), 0, atol=1e-4)
    np.testing.assert_allclose(landmark.mouth_error(FACES + shift, FACES), 5, rtol=1e-4)
    deep = FACES.at[..., 48:, 2].multiply(2.0)
    np.testing.assert_allclose(landmark.lmd(deep, FACES), 0, atol=1e-4)


def test_lmd_against_a_loop_with_a_mask():
    other = FACES + jnp.float32(RNG.normal(size=FACES.shape))
    mask = np.arange(10)[None] < np.array([[10], [4]])
    for b in range(2):
        distances = []
        for t in np.flatnonzero(mask[b]):
            p, q = np.asarray(other)[b, t, 48:, :2], np.asarray(FACES)[b, t, 48:, :2]
            distances += [np.linalg.norm((p - p.mean(0)) - (q - q.mean(0)), axis=-1)]
        np.testing.assert_allclose(landmark.lmd(other, FACES, mask)[b], np.mean(distances), rtol=1e-4)


def test_opening_correlation():
    opening = jnp.sin(jnp.arange(10.0))[None, :, None]
    lower = jnp.array([65, 66, 67])
    talking = jnp.broadcast_to(jnp.float32(face.TEMPLATE), (1, 10, 68, 3)).at[..., lower, 1].add(2 + opening)
    against = jnp.broadcast_to(jnp.float32(face.TEMPLATE), (1, 10, 68, 3)).at[..., lower, 1].add(2 - opening)
    np.testing.assert_allclose(landmark.opening_correlation(talking, talking), 1, atol=1e-4)
    np.testing.assert_allclose(landmark.opening_correlation(talking, against), -1, atol=1e-2)
    still = jnp.broadcast_to(talking[:, :1], talking.shape)
    assert landmark.opening_correlation(still, talking)[0] == 0


def test_distances_of_detections_ignore_where_the_face_is():
    landmarks = np.tile(face.TEMPLATE, (2, 1, 1))
    moved = landmarks + np.array([5, -3, 100])
    for found in landmark.of_detections(moved, landmarks).values():
        np.testing.assert_allclose(found, 0, atol=1e-9)
    moved[:, 50] += [3, 4, 0]  # the other points move against it, about the centroid
    eyes = np.linalg.norm(face.TEMPLATE[36, :2] - face.TEMPLATE[45, :2])
    mouth, whole = ((5 * (1 - 1 / n) + (n - 1) * 5 / n) / n for n in (20, 68))
    found = landmark.of_detections(moved, landmarks)
    for name, wanted in {'mean20': mouth, 'sum20': 20 * mouth, 'm_lmd': 100 * mouth / eyes,
                         'f_lmd': 100 * whole / eyes}.items():
        np.testing.assert_allclose(found[name], wanted)
