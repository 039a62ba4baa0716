"""Synthetic faces: the template, the surface, expressions, and what a face detector thinks of the frames."""

import cv2
import numpy as np
import pytest

from input_pipeline.synthetic import clips, expression, surface
from input_pipeline.synthetic.identity import make_identity
from input_pipeline.synthetic.scene import Scene
from talkinghead_jax.geometry import face, rigid


@pytest.fixture(scope='module')
def identities():
    return [make_identity(0, speaker) for speaker in range(300)]


def test_mean_of_many_identities_is_the_template(identities):
    mean = np.mean([identity.controls[:68] for identity in identities], axis=0)
    np.testing.assert_allclose(mean, face.TEMPLATE, atol=1.0)
    np.testing.assert_allclose(face.mirror(mean), mean, atol=0.6)


def test_identities_differ(identities):
    landmarks = np.array([identity.controls[:68] for identity in identities])
    assert landmarks.std(axis=0).max(axis=0).min() > 1.0  # px, along each axis
    assert len({identity.hair_style for identity in identities}) == 5


def test_template_is_symmetric():
    np.testing.assert_allclose(face.mirror(face.TEMPLATE), face.TEMPLATE, atol=1e-9)


def test_neutral_faces_are_frontal_with_closed_mouth(identities):
    for identity in identities[:50]:
        np.testing.assert_allclose(rigid.estimate_pose(identity.controls[:68]), 0, atol=1e-9)
        gaps = [identity.controls[lower, 1] - identity.controls[upper, 1] for upper, lower in face.INNER_LIPS]
        assert min(gaps) > 0
        assert max(gaps) < 2


def test_landmarks_lie_on_the_mesh():
    """The piecewise linear mesh passes within a pixel of all 68 landmarks, at rest and with the mouth open."""
    identity = make_identity(0, 3)
    for activations in (np.zeros(6), np.array([1, 0.5, 0, 0, 0.5, 1])):
        controls = expression.express(identity.controls, activations[None])[0]
        grid = surface.position_map(surface.surface_vertices(controls))
        at = (surface.CONTROL_UV[:68] * (surface.UV_SIZE - 1)).astype(np.float32)
        found = cv2.remap(grid, at[:, None, :1], at[:, None, 1:], cv2.INTER_LINEAR)[:, 0]
        distance = np.linalg.norm(found - controls[:68], axis=1)
        assert distance.max() < 1.0, (distance.argmax(), distance.max())


def test_triangles_cover_the_valid_grid_and_face_the_viewer():
    assert surface.TRIANGLES.dtype == np.int32
    np.testing.assert_array_equal(np.unique(surface.TRIANGLES), np.arange(surface.UV_MASK.sum()))
    normals = surface.normals(surface.surface_vertices(surface.CONTROLS), surface.TRIANGLES)
    assert (normals[:, 2] > 0).mean() > 0.9


def test_no_expression_moves_a_rigid_point():
    assert np.abs(expression.DISPLACEMENTS[:, list(face.RIGID_POINTS)]).max() == 0


@pytest.mark.parametrize(('mode', 'check'), [
    ('jaw', lambda rest, moved: face.mouth_opening(moved) > face.mouth_opening(rest) + 8),
    ('width', lambda rest, moved: moved[54, 0] - moved[48, 0] > rest[54, 0] - rest[48, 0] + 5),
    ('round', lambda rest, moved: moved[54, 0] - moved[48, 0] < rest[54, 0] - rest[48, 0] - 5),
    ('press', lambda rest, moved: moved[57, 1] - moved[51, 1] < rest[57, 1] - rest[51, 1] - 1),
    ('blink', lambda rest, moved: moved[41, 1] - moved[37, 1] < 0.2 * (rest[41, 1] - rest[37, 1])),
    ('brow', lambda rest, moved: moved[19, 1] < rest[19, 1] - 2),
])
def test_modes_do_what_they_are_called(mode, check):
    activations = np.zeros((1, 6))
    activations[0, expression.MODES.index(mode)] = 1
    for speaker in range(5):
        rest = make_identity(0, speaker).controls
        assert check(rest[:68], expression.express(rest, activations)[0, :68])


def test_open_mouth_and_closed_eyes_show():
    identity = make_identity(0, 5)
    scene = Scene(identity, 256, np.random.default_rng(0))

    def mean_of(activations, points):
        controls = expression.express(identity.controls, np.array([activations], float))[0]
        image, _, _ = scene.draw(controls, surface.surface_vertices(controls), np.zeros(6))
        x, y = np.rint(controls[points, :2].mean(axis=0)).astype(int)
        return image[y - 1:y + 2, x - 1:x + 2].mean()

    lips, eye = [62, 66], list(range(36, 42))
    assert mean_of([1, 0, 0, 0, 0, 0], lips) < 0.7 * mean_of([0, 0, 0, 0, 0, 0], [51, 57, 62, 66])
    assert abs(mean_of([0, 0, 0, 0, 1, 0], eye) - mean_of([0, 0, 0, 0, 0, 0], eye)) > 8


def test_position_map_agrees_with_the_picture():
    """The map's valid part is smooth, repeats its edge outside, and projects onto skin, not onto the wall."""
    example = clips.make_position_map(0, 4, 64)
    image, positions = example['image'], example['position_map']
    assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
    assert (positions.shape, positions.dtype) == ((64, 64, 3), np.float32)
    inside = surface.UV_MASK[:-1] & surface.UV_MASK[1:]
    assert np.linalg.norm(np.diff(positions, axis=0), axis=-1)[inside].max() < 25
    assert positions[~surface.UV_MASK].std() > 0
    np.testing.assert_array_equal(positions[0, 0], positions[surface.UV_MASK][surface.NEAREST_VERTEX[0, 0]])
    again = clips.make_position_map(0, 4, 64)
    np.testing.assert_array_equal(again['image'], image)
    assert not np.array_equal(clips.make_position_map(0, 5, 64)['image'], image)


def test_mediapipe_finds_the_faces(shared_data):
    import mediapipe
    vision = mediapipe.tasks.vision
    options = vision.FaceLandmarkerOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_path=str(shared_data / 'models/face_landmarker.task')),
        running_mode=vision.RunningMode.IMAGE)
    found = []
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for speaker in range(5):
            record = clips.make_clip(3, speaker, 0, 20, 256)
            for frame in record['video'][::10]:
                image = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR_RGB)
                result = landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
                found.append(bool(result.face_landmarks))
    assert np.mean(found) >= 0.95
