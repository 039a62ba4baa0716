"""Equations 1 and 2 and the projector against loops written from the paper (Sec. 4.1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from talkinghead_jax.geometry import rigid
from talkinghead_jax.models import projection

CROP = 256


def as_float32(*arrays):
    return [jnp.asarray(a, jnp.float32) for a in arrays]


def paper_pose(rng):
    """The paper's R and T of p = R l + T, about the image's corner, turned about a point inside the face."""
    rotation = Rotation.from_rotvec(rng.normal(size=3) * 0.3).as_matrix()
    centre = rng.uniform(110, 140, 3)
    return rotation, centre - rotation @ centre + rng.normal(size=3) * 5


def equation_1(vertex, key, target):
    """V_t = R_t^-1 (R_key V + T_key - T_t), literally."""
    return np.linalg.inv(target[0]) @ (key[0] @ vertex + key[1] - target[1])


def our_pose(rotation, translation):
    vector = Rotation.from_matrix(rotation).as_rotvec()
    return rigid.from_image_origin(np.concatenate([vector, translation]))


def test_equation_1_about_the_images_corner():
    rng = np.random.default_rng(0)
    vertices = rng.uniform(40, 216, (3, 5, 3))
    for points in vertices:
        key, target = paper_pose(rng), paper_pose(rng)
        want = [equation_1(vertex, key, target) for vertex in points]
        np.testing.assert_allclose(rigid.repose(points, our_pose(*key), our_pose(*target)), want, atol=1e-9)


project = jax.jit(projection.project)


def mesh(depths=0.0):
    """A square of 3 x 3 vertices, `depths` from the plane, and 8 triangles that face the viewer, in crop px."""
    x, y = np.meshgrid([64.0, 128, 192], [64.0, 128, 192])
    vertices = np.stack([x, y, np.broadcast_to(depths, (3, 3))], -1).reshape(-1, 3)
    triangles = [t for i in (0, 1, 3, 4) for t in ((i, i + 1, i + 3), (i + 1, i + 4, i + 3))]
    return vertices, np.array(triangles)


def interpolated(corners, values, x, y):
    """Linear in the triangle, or None outside of it: corners (3,2), values (3,C)."""
    matrix = np.vstack([np.asarray(corners).T, np.ones(3)])
    weights = np.linalg.solve(matrix, [x, y, 1])
    return weights @ values if (weights > 0.1).all() else None


def test_projected_displacement_and_colour_against_loops():
    """Where a pixel's surface lies in the other pose minus where it lies here; Eq. 1 vertex by vertex."""
    size, rng = 32, np.random.default_rng(1)
    vertices, triangles = mesh(rng.normal(size=(3, 3)) * 10)
    key, target, other = (paper_pose(rng) for _ in range(3))
    key_image = np.broadcast_to(np.linspace(-0.9, 0.9, size)[None, :, None], (size, size, 3)).copy()
    key_image[..., 1] = key_image[..., 1].T
    here, there, colours = [], [], []
    for vertex in vertices:
        scale = size / CROP
        here.append((equation_1(vertex, key, target)[:2] + 0.5) * scale - 0.5)
        there.append((equation_1(vertex, key, other)[:2] + 0.5) * scale - 0.5)
        u, v = (vertex[:2] + 0.5) * scale - 0.5
        colours.append([-0.9 + 1.8 * u / (size - 1), -0.9 + 1.8 * v / (size - 1), -0.9 + 1.8 * u / (size - 1)])
    here, attributes = np.array(here), np.hstack([np.array(there) - here, colours])
    poses = [our_pose(*pose)[None] for pose in (key, target, other)]
    seen = project(*as_float32(vertices[None], np.ones((1, 9))), triangles, *as_float32(key_image[None], *poses))
    compared = 0
    for row in range(size):
        for column in range(size):
            inside = [values for t in triangles
                      if (values := interpolated(here[t], attributes[t], column, row)) is not None]
            if len(inside) == 1:
                compared += 1
                np.testing.assert_allclose(seen.displacement[0, row, column], inside[0][:2], atol=0.1)
                np.testing.assert_allclose(seen.image[0, row, column], inside[0][2:], atol=0.05)
    assert compared > 80
    assert np.ptp(attributes[:, :2]) > 1  # px: the displacement is not nothing


def test_projection_in_the_key_pose_is_the_key_image():
    vertices, triangles = mesh()
    ramp = np.linspace(-1, 1, 32)
    image = np.broadcast_to(ramp[None, :, None, None], (1, 32, 32, 3))
    pose, moved = np.zeros((1, 6)), np.array([[0.0, 0, 0, 8, 0, 0]])
    seen = project(*as_float32(vertices[None], np.ones((1, 9))), triangles, *as_float32(image, pose, pose, moved))
    inside = (slice(0, 1), slice(10, 22), slice(10, 22))
    np.testing.assert_allclose(seen.image[inside], image[inside], atol=0.07)  # soft along the seams
    np.testing.assert_allclose(seen.alpha[inside], 1, atol=0.05)
    # p = l + t is fixed, so a pose with t = 8 crop px shows the same point 8 crop px, here 1 px, to the left.
    np.testing.assert_allclose(seen.displacement[inside], np.broadcast_to([-1.0, 0.0], (1, 12, 12, 2)), atol=1e-3)
    assert float(seen.image[0, 0, 0, 0]) == -1


def test_hidden_surface_is_black():
    vertices, triangles = mesh()
    image, pose = np.ones((1, 32, 32, 3)), np.zeros((1, 6))
    seen = project(*as_float32(vertices[None], np.zeros((1, 9))), triangles, *as_float32(image, pose, pose, pose))
    np.testing.assert_allclose(seen.image, -1)
    np.testing.assert_allclose(seen.alpha, 0)


@pytest.mark.parametrize('literal', [True, False])
def test_equation_2(literal):
    rng = np.random.default_rng(2)
    target, poses = rng.normal(size=(3, 6)), rng.normal(size=(3, 5, 6))
    deviation = np.ones(6) if literal else rng.uniform(0.5, 2, 6)
    mask = np.array([[True] * 5, [True, True, False, True, False], [False, False, True, False, False]])
    want, matched = np.full((3, 5), np.inf), []
    for b in range(3):
        for k in range(5):
            if mask[b, k]:
                want[b, k] = sum(((target[b, i] - poses[b, k, i]) / deviation[i]) ** 2 for i in range(6))
        matched.append(min(range(5), key=lambda k, b=b: want[b, k]))
    arrays = as_float32(target, poses)
    got = projection.pose_costs(*arrays, jnp.asarray(mask), *as_float32(deviation))
    np.testing.assert_allclose(got, want, rtol=1e-4)
    np.testing.assert_array_equal(projection.match(got), matched)
    assert matched[2] == 2


def test_the_harder_matcher_draws_the_other_valid_references_equally():
    count, harder = 900, jax.jit(projection.match_harder)
    costs = jnp.broadcast_to(jnp.array([2.0, 1.0, jnp.inf, 3.0, 9.0]), (count, 5))
    keys = jax.random.split(jax.random.key(0), count)
    easy, half, hard = (np.bincount(harder(costs, keys, p), minlength=5) for p in (0.0, 0.5, 1.0))
    assert easy.tolist() == [0, count, 0, 0, 0]
    assert hard[1] == hard[2] == half[2] == 0
    # Five standard deviations of a binomial count.
    np.testing.assert_allclose(hard[[0, 3, 4]], count / 3, atol=5 * np.sqrt(count * 2 / 9))
    np.testing.assert_allclose(half[1], count / 2, atol=5 * np.sqrt(count / 4))
    np.testing.assert_allclose(half[[0, 3, 4]], count / 6, atol=5 * np.sqrt(count * 5 / 36))


def test_a_single_valid_reference_is_matched_however_hard():
    costs = jnp.full((20, 4), jnp.inf).at[:, 2].set(7.0)
    drawn = jax.jit(projection.match_harder)(costs, jax.random.split(jax.random.key(1), 20), 1.0)
    assert (np.asarray(drawn) == 2).all()


def test_padding_does_not_change_what_the_harder_matcher_draws():
    costs, keys = jnp.broadcast_to(jnp.array([2.0, 1.0, 3.0]), (50, 3)), jax.random.split(jax.random.key(2), 50)
    padded = jnp.pad(costs, ((0, 0), (0, 5)), constant_values=jnp.inf)
    drawn = jax.jit(projection.match_harder)(costs, keys, 0.8)
    assert len(set(np.asarray(drawn).tolist())) == 3
    np.testing.assert_array_equal(jax.jit(projection.match_harder)(padded, keys, 0.8), drawn)


def test_each_example_takes_its_own_entry():
    values = np.arange(24).reshape(3, 4, 2)
    np.testing.assert_array_equal(projection.take(jnp.asarray(values), jnp.array([3, 0, 2])),
                                  [values[0, 3], values[1, 0], values[2, 2]])


def test_blanked_boxes_take_the_average_of_what_is_known_around_them():
    rng, size = np.random.default_rng(3), 10
    image, surface = rng.uniform(-1, 1, (2, size, size, 3)), rng.uniform(0, 1, (2, size, size))
    boxes = np.zeros((2, size, size))
    boxes[0, 2:5, 3:7] = boxes[1, 8:, :2] = 1
    known, want = surface * (1 - boxes), image.copy()
    for b, row, column in np.argwhere(boxes):
        weights = np.zeros((size, size))
        for v, u in np.ndindex(size, size):
            distance = ((row - v) ** 2 + (column - u) ** 2) / (projection.BLUR * size) ** 2
            weights[v, u] = known[b, v, u] * np.exp(-distance / 2)
        want[b, row, column] = (weights[..., None] * image[b]).sum((0, 1)) / weights.sum()
    got = projection.blank(*as_float32(image, boxes, surface))
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_boxes_with_nothing_around_them_are_black():
    image, boxes = jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 8, 8)).at[:, 2:4, 2:4].set(1.0)
    blanked, pull = jax.vjp(lambda x: projection.blank(x, boxes, 0 * boxes), image)
    np.testing.assert_allclose(blanked[0, 2:4, 2:4], -1)
    assert np.isfinite(pull(jnp.ones_like(image))[0]).all()
