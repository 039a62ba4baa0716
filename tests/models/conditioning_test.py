"""What the network is given: the matched reference, the render, and no expression of either."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax.geometry import face, rigid, sketch
from talkinghead_jax.models import conditioning, flow, projection

SIZE, K = 32, 3


@pytest.fixture(scope='module')
def scene():
    """(batch, frozen): two faces with three references each, on a mesh of six vertices."""
    rng = np.random.default_rng(0)
    pose = rng.normal(size=(2, K + 2, 6)) * [0.1, 0.15, 0.05, 6, 6, 3]
    landmarks = rigid.apply_pose(np.broadcast_to(face.TEMPLATE, (2, K + 2, 68, 3)).astype(np.float64), pose)
    images = rng.integers(0, 256, (2, K + 1, SIZE, SIZE, 3))
    x, y = np.meshgrid([40.0, 128, 216], [50.0, 220])
    mesh = np.broadcast_to(np.stack([x, y, 0 * x], -1).reshape(1, 6, 3), (2, 6, 3))
    floats = {'reference_landmarks': landmarks[:, 2:], 'reference_pose': pose[:, 2:],
              'key_landmarks': landmarks[:, 0], 'key_pose': pose[:, 0], 'mesh_vertices': mesh,
              'mesh_visibility': np.ones((2, 6)),
              'target_landmarks': landmarks[:, 1], 'target_pose': pose[:, 1]}
    batch = {name: jnp.asarray(value, jnp.float32) for name, value in floats.items()}
    batch |= {'references': jnp.asarray(images[:, 1:], jnp.uint8), 'key_image': jnp.asarray(images[:, 0], jnp.uint8),
              'reference_mask': jnp.array([[True, True, True], [False, True, True]])}
    triangles = jnp.array([[0, 1, 3], [1, 4, 3], [1, 2, 4], [2, 5, 4]], jnp.int32)
    return batch, {'triangles': triangles, 'pose_deviation': jnp.array([0.1, 0.1, 0.1, 5, 5, 5])}


@pytest.fixture(scope='module')
def run():
    """Jitted `condition` twice, blanked, and bare with the literal Eq. 2; what the matcher and the projector give is
    disturbed by the noise of that name, a picture each.
    """
    def both(batch, frozen, noise):
        project, take = projection.project, projection.take

        def disturbed_project(*arguments):
            seen = project(*arguments)
            return seen._replace(image=seen.image + noise['render'])

        def disturbed_take(values, index):
            taken = take(values, index)
            return taken + noise['matched'] if taken.shape == noise['matched'].shape else taken

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(projection, 'project', disturbed_project)
            patch.setattr(projection, 'take', disturbed_take)
            return tuple(conditioning.condition(batch, frozen, blank=blank, literal=not blank)
                         for blank in (True, False))

    return jax.jit(both)


QUIET = {name: jnp.zeros((2, SIZE, SIZE, 3)) for name in ('matched', 'render')}


@pytest.fixture(scope='module')
def given(scene, run):
    """(blanked, bare and literal), as they are."""
    return run(*scene, QUIET)


def best(batch, deviation):
    """Eq. 2 in loops: the valid reference of least cost."""
    found = []
    for b in range(2):
        costs = {k: sum(((batch['target_pose'][b, i] - batch['reference_pose'][b, k, i]) / deviation[i]) ** 2
                        for i in range(6)) for k in range(K) if batch['reference_mask'][b, k]}
        found.append(min(costs, key=costs.get))
    return found


@pytest.mark.parametrize('literal', [False, True])
def test_the_matched_reference_is_taken_with_all_that_belongs_to_it(scene, given, literal):
    batch, frozen = (jax.tree.map(np.asarray, part) for part in scene)
    for b, k in enumerate(best(batch, np.ones(6) if literal else frozen['pose_deviation'])):
        found = jax.tree.map(lambda x, b=b: x[b], given[literal])
        np.testing.assert_allclose(found.matched, batch['references'][b, k] / 127.5 - 1, atol=1e-5)
        np.testing.assert_allclose(found.matched_landmarks, batch['reference_landmarks'][b, k])
        drawn = sketch.draw(jnp.asarray(batch['reference_landmarks'][b, k]), SIZE)[..., None]
        np.testing.assert_allclose(found.sources['matched'].sketch, drawn, atol=1e-5)
        np.testing.assert_allclose(found.reference_sketches[k], drawn, atol=1e-5)


def test_the_render_brings_the_key_frames_landmarks_into_the_targets_pose(scene, given):
    batch = {name: np.asarray(value, np.float64) for name, value in scene[0].items()}
    want = rigid.repose(batch['key_landmarks'], batch['key_pose'], batch['target_pose'])
    np.testing.assert_allclose(given[0].render_landmarks, want, atol=1e-3)
    source = given[0].sources['render']
    np.testing.assert_allclose(source.sketch[..., 0], sketch.draw(jnp.asarray(want, jnp.float32), SIZE), atol=1e-3)
    points = [sketch.to_pixels(jnp.asarray(p, jnp.float32)[..., :2], SIZE) for p in (batch['target_landmarks'], want)]
    np.testing.assert_allclose(source.prior, flow.landmark_field(*points, SIZE), atol=1e-3)


def boxes_of(given, name):
    landmarks = given.matched_landmarks if name == 'matched' else given.render_landmarks
    return sketch.eye_mouth_mask(landmarks, SIZE)


@pytest.mark.parametrize('blank', [True, False])
@pytest.mark.parametrize('name', ['matched', 'render'])
def test_the_network_sees_eyes_and_mouth_only_where_blanking_is_off(scene, run, given, name, blank):
    """Disturb the pixels inside the boxes of one source, and nothing else."""
    before = given[not blank]
    boxes = boxes_of(before, name)
    assert 0.01 < float(boxes.mean()) < 0.3
    noise = boxes[..., None] * jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (2, SIZE, SIZE, 3)), jnp.float32)
    after = run(*scene, {**QUIET, name: noise})[not blank]
    assert not np.array_equal(*(x.matched if name == 'matched' else x.projection.image for x in (before, after)))
    pairs = zip(jax.tree.leaves(before.sources), jax.tree.leaves(after.sources), strict=True)
    assert sum(not np.array_equal(a, b) for a, b in pairs) == (0 if blank else 1)


def test_what_is_known_is_visible_surface_outside_the_boxes(given):
    for name, surface in (('matched', np.ones((2, SIZE, SIZE))), ('render', given[0].projection.alpha)):
        want = surface * (1 - boxes_of(given[0], name))
        np.testing.assert_allclose(given[0].sources[name].known[..., 0], want, atol=1e-6)
