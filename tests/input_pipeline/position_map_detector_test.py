"""PRNet as a detector: a network that knows where it looks, the index files, and the crop as published."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline import face_boxes, face_tracking, media, position_map_detector, position_map_mesh
from input_pipeline.position_map_detector import PositionMapDetector, Square
from talkinghead_jax.errors import UserError
from talkinghead_jax.models.unprojection import UnprojectionNet
from third_party import assets

WIDTH, HEIGHT = 400, 300  # px: of the frames
REPEATS = 8  # levels of blue between two frames


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Index files of a mesh of 40 x 30 pixels, a corner of it missing, whose landmarks are spread over it."""
    folder = tmp_path_factory.mktemp('prnet')
    rows, columns = (axis.ravel() for axis in np.mgrid[50:80, 100:140])
    pixels = (rows * 256 + columns)[np.maximum(rows - 50, columns - 100) > 0]
    np.savetxt(folder / 'face_ind.txt', pixels)
    chosen = pixels[np.linspace(0, len(pixels) - 1, 68).astype(int)]
    np.savetxt(folder / 'uv_kpt_ind.txt', np.stack([chosen % 256, chosen // 256]))
    return folder


def _face(mesh):
    """(65536, 3): a face of 100 px about the origin in the layout of a position map."""
    rows, columns = mesh.vertices // 256, mesh.vertices % 256
    face = np.zeros((256 * 256, 3), np.float32)
    face[mesh.vertices] = np.stack([(columns - 120) * 2.5, (rows - 65) * 3.3, 20 - 0.1 * (columns - 120) ** 2], -1)
    return face


class Scene:
    """A face at `places` (T, 2) of `sizes` (T,), NaN where there is none; frames that say what they show.

    Red is 0.6 x, green 0.8 y, blue the number of the frame: the network reads off where a crop was taken.
    """

    def __init__(self, mesh, places, sizes=1.0):
        self.face, self.places, self.calls, self.asked = _face(mesh), np.asarray(places, float), 0, 0
        self.sizes = np.broadcast_to(sizes, len(self.places))

    def frames(self):
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        for t in range(len(self.places)):
            blue = np.full_like(x, REPEATS * (t + 1))
            yield np.stack([np.rint(0.6 * x), np.rint(0.8 * y), blue], -1).astype(np.uint8)

    def truth(self, t):
        return self.face * self.sizes[t] + np.append(self.places[t], 0)

    def network(self, crops):
        self.calls += 1
        return np.stack([self._map(crop.astype(float)) for crop in crops]).reshape(-1, 256, 256, 3)

    def _map(self, crop):
        rows, columns = np.nonzero(crop[..., 2] > 0)
        if not rows.size:
            return np.zeros_like(self.face)
        t = round(np.median(crop[rows, columns, 2]) / REPEATS) - 1
        inner = np.abs(crop[rows, columns, 2] - REPEATS * (t + 1)) < 0.5  # no pixel mixed with the black beyond
        scale, left = np.polyfit(columns[inner], crop[rows, columns, 0][inner] / 0.6, 1)
        _, top = np.polyfit(rows[inner], crop[rows, columns, 1][inner] / 0.8, 1)
        if np.isnan(self.places[t]).any():
            return self.face + 127.5  # PRNet sees a face everywhere
        return (self.truth(t) - [left, top, 0]) / scale

    def boxes(self, frame):
        self.asked += 1
        t = frame[0, 0, 2] // REPEATS - 1
        if np.isnan(self.places[t]).any():
            return np.zeros((0, 4))
        x, y = self.places[t] + [3, -12]  # detectors see brows and mouth rather than the outline
        return np.array([[x - 40, y - 40, x + 40, y + 40]])


def _detect(folder, scene, boxes=True):
    with PositionMapDetector(folder, scene.network, scene.boxes if boxes else None) as detector:
        if not boxes:
            detector._boxes = None  # else the user's assets would decide
        return detector.detect(scene.frames())


def _check(scene, mesh, detections, found):
    expected = [bool(t in found) for t in range(len(scene.places))]
    assert detections.detected.tolist() == expected
    assert detections.landmarks.dtype == detections.dense.dtype == detections.confidence.dtype == np.float32
    for t, there in enumerate(expected):
        truth = scene.truth(t) if there else np.zeros_like(scene.face)
        np.testing.assert_allclose(detections.dense[t], truth[mesh.vertices], atol=0.1)
        np.testing.assert_allclose(detections.landmarks[t], truth[mesh.landmarks], atol=0.1)
        assert (detections.confidence[t] >= position_map_detector.LEAST_CONFIDENCE) == there
    assert detections.confidence.max() <= 1


@pytest.fixture(scope='module')
def mesh(folder):
    return position_map_mesh.load(folder)


def test_a_moving_face_is_followed_to_a_tenth_of_a_pixel(folder, mesh):
    t = np.arange(19)
    scene = Scene(mesh, np.stack([150 + 4 * t, 140 + 10 * np.sin(t / 3)], -1), 1 + t / 60)
    detections = _detect(folder, scene)
    _check(scene, mesh, detections, range(19))
    assert not detections.replaced.any()
    assert detections.confidence[8] > 0.9  # its square is its own but for one frame's motion
    assert scene.calls == 4  # two looks at the first batch, one at each other
    assert scene.asked == 8 + 2  # each frame of the first, the last of the others


def test_a_face_that_vanishes_is_found_again(folder, mesh):
    places = np.full((27, 2), [200.0, 150.0])
    places[10:18] = np.nan  # where the background stays and the network dreams on
    scene = Scene(mesh, places)
    detections = _detect(folder, scene)
    _check(scene, mesh, detections, [*range(10), *range(18, 27)])
    assert not detections.replaced.any()


def test_somebody_else_does_not_take_over(folder, mesh):
    places, sizes = np.full((24, 2), [120.0, 150.0]), np.ones(24)
    places[10:20], sizes[10:20] = [320.0, 120.0], 0.7  # a cut to another one and back
    scene = Scene(mesh, places, sizes)
    detections = _detect(folder, scene)
    _check(scene, mesh, detections, [*range(10), *range(20, 24)])
    assert np.flatnonzero(detections.replaced).tolist() == list(range(10, 20))


def test_without_a_face_detector_the_whole_frame_is_the_first_box(folder, mesh):
    scene = Scene(mesh, np.full((3, 2), [210.0, 140.0]), 1.4)
    _check(scene, mesh, _detect(folder, scene, boxes=False), range(3))
    assert scene.asked == 0


def test_implausible_faces_do_not_count(folder, mesh):
    scene = Scene(mesh, np.full((3, 2), [200.0, 150.0]))
    for value in (128.0, np.nan, 1e30, 900.0 * np.arange(65536)[:, None] * np.ones(3)):
        scene._map = lambda crop, value=value: np.zeros((65536, 3)) + value
        detections = _detect(folder, scene)
        assert not detections.detected.any()
        assert not detections.dense.any()
        assert not detections.confidence.any()
    half_out = Scene(mesh, np.full((3, 2), [4.0, 150.0]))
    assert 0.3 < _detect(folder, half_out).confidence.max() < 0.7
    assert _detect(folder, Scene(mesh, np.zeros((0, 2)))).dense.shape == (0, len(mesh.vertices), 3)


def test_squares_are_the_published_ones():
    box = np.array([40.0, 60.0, 140.0, 180.0])  # mean side 110, centre (90, 120)
    side = 1.58 * 110
    np.testing.assert_allclose(Square.of_box(box), (90 - side / 2, 120 + 0.14 * 110 - side / 2, side))
    corners = np.array([[40.0, 60.0, 7.0], [140.0, 180.0, 9.0]])
    np.testing.assert_allclose(Square.of_landmarks(corners), (90 - 88, 120 - 88, 176))
    square = Square(10.0, 20.0, 51.0)
    np.testing.assert_allclose(square.to_frame(np.array([[0.0, 0, 0], [255, 255, 255]])), [[10, 20, 0], [61, 71, 51]])
    assert square.overlap(square) == 1
    assert square.overlap(Square(61.0, 20.0, 51.0)) == 0
    np.testing.assert_allclose(square.overlap(Square(27.0, 20.0, 51.0)), 34 / 68)


def test_triangles_are_those_derived_from_the_published_indices(shared_data, tmp_path):
    published = shared_data / 'topology' / 'prnet_uv-data'
    mesh = position_map_mesh.load(published)
    derived = np.load(published / 'prnet_triangles_derived.npy')

    def turned(triangles):  # each begins with its smallest number, which keeps the winding
        first = np.argmin(triangles, axis=1)[:, None]
        return set(map(tuple, np.take_along_axis(triangles, (first + np.arange(3)) % 3, axis=1).tolist()))

    assert turned(mesh.triangles) == turned(derived)
    face = np.load(published / 'canonical_vertices.npy')  # y down, z towards the viewer
    corners = face[mesh.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert normals[:, 2].sum() > 0
    assert np.einsum('fi,fi->f', normals, corners.mean(1) - face.mean(0)).sum() > 0  # outwards
    vertices = np.load(published / 'prnet_kpt68_vertex_ids.npy')
    np.testing.assert_array_equal(mesh.landmarks, mesh.vertices[vertices])

    for name in ('face_ind.txt', 'uv_kpt_ind.txt'):
        shutil.copyfile(published / name, tmp_path / name)
    np.savetxt(tmp_path / 'triangles.txt', derived[:9, ::-1])  # a given file is obeyed, but for its winding
    assert turned(position_map_mesh.load(tmp_path).triangles) == turned(derived[:9])


@pytest.mark.parametrize(('name', 'content', 'sentence'), [
    ('face_ind.txt', '5 70000', r'face_ind\.txt holds 2 numbers; want different ones from 0 to 65535'),
    ('face_ind.txt', 'five', r'face_ind\.txt is damaged'),
    ('uv_kpt_ind.txt', '1 2 3', r'uv_kpt_ind\.txt holds \(3,\) numbers; want .*\(2, 68\)'),
    ('triangles.txt', '0 1 99999\n0 1 2', r'triangles\.txt holds \(2, 3\) numbers; want \(F, 3\), 0 to 1198'),
    ('uv_kpt_ind.txt', None, r'uv_kpt_ind\.txt is missing; want the file of that name from Data/uv-data'),
])
def test_wrong_index_files_are_the_users_mistake(folder, tmp_path, name, content, sentence):
    for each in ('face_ind.txt', 'uv_kpt_ind.txt'):
        shutil.copyfile(folder / each, tmp_path / each)
    (tmp_path / name).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=sentence):
        PositionMapDetector(tmp_path)


def test_the_converted_network_runs_end_to_end(folder, tmp_path, monkeypatch, quick_compilation):
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(tmp_path))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    with pytest.raises(UserError, match=r'has no usable prnet\.npz .*--mode=convert --network=prnet'):
        PositionMapDetector(folder, boxes=lambda frame: np.zeros((0, 4))).__enter__()
    net = UnprojectionNet(width=1, residual=False)
    mean = jnp.zeros((256, 256, 3))
    abstract = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32), mean)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.uniform(-0.3, 1, x.shape).astype(np.float32), abstract['params'])
    statistics = jax.tree.map(lambda x: rng.uniform(0.5, 2, x.shape).astype(np.float32), abstract['batch_stats'])
    variables = {'params': variables, 'batch_stats': statistics}
    assets.save('prnet', variables, 'none')
    network = position_map_detector.load_network(folder)
    crops = rng.integers(0, 256, (2, 256, 256, 3), np.uint8)
    expected = jax.jit(net.apply)(variables, crops / np.float32(127.5) - 1, mean)
    assert expected[..., :2].std(axis=(1, 2)).min() > 1  # px
    np.testing.assert_allclose(network(crops), expected, atol=0.01)
    with PositionMapDetector(folder, network, lambda frame: np.array([[20.0, 20, 60, 60]]), batch=2) as detector:
        detections = detector.detect(np.zeros((3, 80, 90, 3), np.uint8))
    assert detections.landmarks.shape == (3, 68, 3)
    assert detections.dense.shape == (3, 1199, 3)
    assert detector.name == 'prnet'
    with pytest.raises(RuntimeError, match='outside its `with` statement'):
        detector.detect([])


def test_boxes_of_mediapipe_lie_on_the_face(shared_data, tmp_path):
    frames = media.read_video(shared_data / 'golden' / '00025.mp4', max_frames=1)
    landmarks = np.load(shared_data / 'golden' / '00025.npy')[0, :, :2]
    with face_boxes.FaceBoxes(shared_data / 'models' / face_tracking.LANDMARKER) as boxes:
        box, = boxes(frames[0])
        assert boxes(np.zeros_like(frames[0])).shape == (0, 4)
    assert Square.of_box(box).overlap(Square.of_landmarks(landmarks)) > 0.5
    (tmp_path / 'no.task').write_bytes(b'')
    with pytest.raises(UserError, match=r'no\.task is not a face landmarker'):
        face_boxes.FaceBoxes(tmp_path / 'no.task').__enter__()
