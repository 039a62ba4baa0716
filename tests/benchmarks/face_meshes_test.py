import collections

import numpy as np
import pytest

from benchmarks import meshes


@pytest.fixture(scope='module')
def face():
    return meshes.synthetic_face()


def _areas(points, triangles):
    """Signed areas in the image plane, px^2."""
    a, b, c = (points[triangles[:, k], :2].astype(float) for k in range(3))
    return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2


def test_the_mesh_has_prnets_size(face):
    assert face.vertices.shape == face.colours.shape == (43_867, 3)
    assert abs(len(face.triangles) - 86_906) < 500
    assert face.vertices.dtype == face.colours.dtype == np.float32
    assert face.triangles.dtype == np.int32
    assert 0 <= face.colours.min() < face.colours.max() <= 1


def test_the_mesh_is_one_closed_sheet_of_one_orientation(face):
    """Euler: V - E + F = 1 for a disc; no edge has more than two triangles, which run along it in opposite ways."""
    edges = np.concatenate([face.triangles[:, [k, (k + 1) % 3]] for k in range(3)])
    assert len(np.unique(edges, axis=0)) == len(edges)
    undirected = collections.Counter(map(tuple, np.sort(edges, axis=1).tolist()))
    assert max(undirected.values()) == 2
    assert len(np.unique(face.triangles)) == len(face.vertices)
    assert len(face.vertices) - len(undirected) + len(face.triangles) == 1


def test_triangles_are_as_small_as_prnets_and_the_nose_is_in_front(face):
    sizes = [np.abs(_areas(points, face.triangles)).mean() for points in meshes.posed(face, 8)]
    assert 0.2 < min(sizes) < max(sizes) < 0.4
    tip = face.vertices[face.vertices[:, 2].argmax()]
    assert abs(tip[0]) < 2
    assert -10 < tip[1] < 30


def test_poses_stay_in_the_crop_and_keep_distances(face):
    points = meshes.posed(face, 8)
    assert points.shape == (8, 43_867, 3)
    assert points.dtype == np.float32
    assert points[..., :2].min() > 0
    assert points[..., :2].max() < 255
    centred = points - np.array([127.5, 127.5, 0], np.float32)
    np.testing.assert_allclose(np.linalg.norm(centred, axis=-1),
                               np.broadcast_to(np.linalg.norm(face.vertices, axis=-1), (8, 43_867)), rtol=1e-4)


def test_yaw_runs_from_one_side_to_the_other():
    nose = meshes.Mesh('', np.array([[0, 0, 100]], np.float32), np.zeros((0, 3), np.int32), np.zeros((1, 3)))
    x = meshes.posed(nose, 5)[:, 0, 0] - 127.5
    assert (np.diff(x) > 0).all()
    assert x[0] == pytest.approx(-100 * np.sin(np.pi / 3), abs=15)  # but for roll and pitch
    assert x[-1] == pytest.approx(100 * np.sin(np.pi / 3), abs=15)
    assert meshes.posed(nose, 1).shape == (1, 1, 3)


def test_prnets_topology_is_none_where_its_files_are_absent(tmp_path):
    assert meshes.prnet_face(tmp_path) is None


def test_prnets_topology(shared_data):
    face = meshes.prnet_face(shared_data / meshes.FOLDER)
    assert face.vertices.shape == (43_867, 3)
    assert face.triangles.shape == (86_907, 3)
    points = meshes.posed(face, 8)
    assert points[..., :2].min() > 0
    assert points[..., :2].max() < 255
    assert 0.2 < np.abs(_areas(points[0], face.triangles)).mean() < 0.4
