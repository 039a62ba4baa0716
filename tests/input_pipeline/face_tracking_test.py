"""The detector on real faces, its mapping against FAN's landmarks, tracks, gaps and the mesh."""

from collections import Counter

import numpy as np
import pytest

from input_pipeline import face_tracking, media
from input_pipeline.face_tracking import MediaPipeDetector
from input_pipeline.mediapipe_mapping import IBUG, POINTS, mesh_triangles
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.ops.hard_rasterizer import vertex_visibility


@pytest.fixture(scope='module')
def detector(shared_data):
    with MediaPipeDetector(shared_data / 'models' / face_tracking.LANDMARKER) as opened:
        yield opened


@pytest.fixture(scope='module')
def golden(shared_data, detector):
    """A clip of the first implementation with its FAN landmarks: (detections, (T, 68, 3))."""
    name = str(shared_data / 'golden' / 'voxceleb2_id05124_nCbrN6svWRw_00424_aligned')
    return detector.detect(media.read_video(name + '.mp4')), np.load(name + '.npy')


def test_landmarks_lie_where_fan_finds_them(golden):
    detections, expected = golden
    assert detections.detected.all()
    assert detections.landmarks.shape == expected.shape
    assert detections.landmarks.dtype == np.float32
    distance = np.linalg.norm((detections.landmarks - expected)[..., :2], axis=-1)
    assert distance.mean() < 4.2  # px of a 256-px crop; measured 3.7, with the jaw, which is defined differently
    assert distance[:, 17:].mean() < 3.0  # measured 2.5
    bias = (detections.landmarks - expected)[:, 17:, :2].mean(axis=(0, 1))
    np.testing.assert_allclose(bias, 0, atol=1.5)  # the two agree on where a pixel's centre is


def test_pose_moves_as_fan_poses_do(golden):
    detections, expected = golden
    ours = rigid.estimate_pose(detections.landmarks.astype(np.float64))
    theirs = rigid.estimate_pose(expected)
    for axis in range(3):  # signs and amplitudes of all three angles
        assert np.corrcoef(ours[:, axis], theirs[:, axis])[0, 1] > 0.9
        assert 0.7 < ours[:, axis].std() / theirs[:, axis].std() < 1.3


def test_depth_is_towards_the_viewer(golden):
    depth = golden[0].landmarks[..., 2].mean(axis=0)
    assert depth[30] > depth[36] > depth[0]  # nose tip, eye corner, jaw at the ear


def test_small_frames_are_enlarged(shared_data, detector):
    import cv2
    frames = media.read_video(shared_data / 'clips/voxceleb2/00010.mp4', max_frames=3)
    small = np.stack([cv2.resize(frame, (80, 80), interpolation=cv2.INTER_AREA) for frame in frames])
    large, tiny = detector.detect(frames), detector.detect(small)
    assert tiny.detected.all()
    scaled = (tiny.landmarks[..., :2] + 0.5) * frames.shape[2] / 80 - 0.5
    assert np.linalg.norm(scaled - large.landmarks[..., :2], axis=-1).mean() < 4


def test_the_larger_of_two_faces_is_followed(shared_data, detector):
    import cv2
    near = media.read_video(shared_data / 'clips/voxceleb2/00010.mp4', max_frames=6)
    far = media.read_video(shared_data / 'clips/voxceleb2/00098.mp4', max_frames=6)
    both = np.zeros((6, 224, 448, 3), np.uint8)
    both[:, 56:168, 40:152] = np.stack([cv2.resize(frame, (112, 112), interpolation=cv2.INTER_AREA) for frame in far])
    both[:, :, 224:] = near
    found = detector.detect(both)
    assert found.detected.all()
    alone = detector.detect(near).landmarks[..., :2] + [224, 0]
    assert np.linalg.norm(found.landmarks[..., :2] - alone, axis=-1).mean() < 4


def test_no_face_in_black_frames(detector):
    found = detector.detect(np.zeros((3, 64, 64, 3), np.uint8))
    assert not found.detected.any()
    assert not found.landmarks.any()
    assert not found.dense.any()
    assert not found.confidence.any()
    assert not found.replaced.any()


def test_confidence_and_who_else_is_there(shared_data, detector):
    """A face for seven frames, nobody for one, then another face elsewhere."""
    wide = np.zeros((10, 224, 448, 3), np.uint8)
    wide[:7, :, :224] = media.read_video(shared_data / 'clips/voxceleb2/00010.mp4', max_frames=7)
    wide[8:, :, 224:] = media.read_video(shared_data / 'clips/voxceleb2/00098.mp4', max_frames=2)
    found = detector.detect(wide)
    np.testing.assert_array_equal(found.detected, [True] * 7 + [False] * 3)
    np.testing.assert_array_equal(found.replaced, [False] * 8 + [True] * 2)
    assert found.confidence.dtype == np.float32
    np.testing.assert_array_equal(found.confidence > 0, found.detected)
    assert (found.confidence[:7] > 0.8).all()  # a large, sharp face
    assert (found.confidence <= 1).all()


def test_confidence_is_that_of_the_nearest_box():
    track = {t: square(10 * t, 100) for t in (0, 1, 2, 5, 6, 10)}  # its middle is at 50 + 10 t
    boxes = {0: [(0.7, np.array([400, 50])), (0.9, np.array([52, 48]))], 5: [(0.6, np.array([90, 60]))],
             7: [(0.8, np.array([120, 50]))], 10: [(0.99, np.array([300, 50]))]}
    found = face_tracking._confidence(track, boxes, 12)
    expected = np.zeros(12)
    expected[[0, 1, 2, 5, 6, 10]] = [0.9, 0.84, 0.78, 0.6, 0.58, face_tracking.LEAST_CONFIDENCE]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(face_tracking._confidence({3: square(0, 9)}, {}, 5), [0, 0, 0, 0.5, 0])


def square(x, side, points=4):
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], float)
    return corners[:points] * side + [x, 0, 0]


def test_main_track_survives_gaps_crossings_and_guests():
    """A large face with a gap, a small one throughout, and a larger one in a single frame."""
    faces = [[square(300, 40), square(t, 100)] for t in range(10)]
    faces[4] = [square(300, 40)]
    faces[5] = []
    faces[7] = [square(900, 300), square(7, 100), square(300, 40)]
    track = face_tracking.main_track(faces)
    assert sorted(track) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert all(points[0, 0] == t for t, points in track.items())
    assert face_tracking.main_track([[], []]) == {}


def test_gaps_are_interpolated():
    detected = np.array([False, True, False, False, True, False])
    points = np.zeros((6, 68, 3), np.float32)
    points[1], points[4] = 3, 9
    filled = face_tracking.fill_gaps(points, detected)
    np.testing.assert_allclose(filled[:, 5, 1], [3, 3, 5, 7, 9, 9])
    times = np.array([0, 0, 3])
    np.testing.assert_array_equal(face_tracking.fill_gaps(points, detected, times), filled[times])


def test_mesh_is_a_disc(shared_data):
    triangles = mesh_triangles()
    assert triangles.dtype == np.int32
    assert set(triangles.ravel()) == set(range(468))
    edges = [(f[i], f[(i + 1) % 3]) for f in triangles.tolist() for i in range(3)]
    assert max(Counter(edges).values()) == 1  # one orientation
    both = Counter(tuple(sorted(edge)) for edge in edges)
    assert set(both.values()) == {1, 2}
    assert 468 - len(both) + len(triangles) == 1  # Euler: no holes
    canonical = [line for line in (shared_data / 'topology/canonical_face_model.obj').open() if line.startswith('f ')]
    assert len(triangles) == len(canonical)


def test_ibug_points_are_distinct_and_symmetric():
    assert len(IBUG) == len(set(IBUG.tolist())) == 68
    assert IBUG.max() < POINTS


def test_key_frame_sees_the_front_of_the_face(golden):
    detections, _ = golden
    triangles = mesh_triangles()
    poses = rigid.estimate_pose(detections.landmarks.astype(np.float64))
    frontal = detections.dense[np.abs(poses[:, 1]).argmin()]
    turned = rigid.repose(frontal.astype(np.float64), np.zeros(6), np.array([0, 0.9, 0, 0, 0, 0]))
    # The golden landmarks are in frame px: bring the face into the crop.
    middle = frontal.mean(0)
    scale = 160 / np.ptp(frontal[:, :2])
    frontal, turned = ((points - middle) * scale + [128, 128, 0] for points in (frontal, turned))
    seen, turned_seen = np.asarray(vertex_visibility(np.stack([frontal, turned]).astype(np.float32), triangles, 256))
    assert seen[:468].mean() > 0.95
    seen = turned_seen
    assert 0.4 < seen.mean() < 0.9
    assert len({seen[234], seen[454]}) == 2  # one ear is seen, the other is not


def test_landmarker_is_looked_for_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(tmp_path / 'assets'))
    with pytest.raises(UserError, match=face_tracking.LANDMARKER_SHA256):
        face_tracking.find_landmarker()
    with pytest.raises(UserError, match='no file nowhere'):
        face_tracking.find_landmarker('nowhere')
    cached = tmp_path / 'cache' / 'talkinghead_jax' / face_tracking.LANDMARKER
    asset = tmp_path / 'assets' / face_tracking.LANDMARKER
    for path in (cached, asset):
        path.parent.mkdir(parents=True)
        path.write_text('')
        assert face_tracking.find_landmarker('') == path
    assert face_tracking.find_landmarker(str(cached)) == cached


def test_wrong_model_file(tmp_path):
    (tmp_path / 'model.task').write_text('not a model')
    with pytest.raises(UserError, match=r'model\.task is not a face landmarker'), \
            MediaPipeDetector(tmp_path / 'model.task'):
        pass
    with pytest.raises(RuntimeError, match='outside'):
        MediaPipeDetector(tmp_path / 'model.task').detect([])


def test_mapping_knows_left_from_right(golden):
    landmarks = golden[0].landmarks.mean(axis=0)
    assert landmarks[list(face.RIGHT_EYE), 0].max() < landmarks[list(face.LEFT_EYE), 0].min()
