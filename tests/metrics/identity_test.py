"""Alignment is scikit-image's and OpenCV's, persons are told apart, and no degenerate face makes a NaN."""

import cv2
import jax
import numpy as np
import pytest
import skimage.transform

from input_pipeline import face_tracking, media
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face
from talkinghead_jax.metrics import identity
from third_party.iresnet.network import IResNet
from third_party.mobilefacenet import convert
from third_party.mobilefacenet.network import MobileFaceNet

RNG = np.random.default_rng(8)
ANGLES, SIZES, PLACES = np.radians([10, -35, 170]), (0.4, 1.0, 3.0), [(60, 50), (128, 128), (220, 190)]

pytestmark = pytest.mark.usefixtures('quick_compilation')


def _faces():
    """(3,68,3): the template turned, scaled, moved and distorted."""
    points = face.TEMPLATE - face.CENTROID + RNG.normal(size=(3, 68, 3)) * 2
    turns = [[[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]] for a in ANGLES]
    moved = np.einsum('bij,bpj->bpi', turns, points) * np.array(SIZES)[:, None, None]
    moved[..., :2] += np.array(PLACES)[:, None]
    return moved.astype(np.float32)


LANDMARKS = _faces()
IMAGES = np.stack([cv2.GaussianBlur(RNG.integers(0, 256, (240, 300, 3), np.uint8), (0, 0), 2) for _ in range(3)])
ALIGN = jax.jit(identity.align)


def test_the_five_points():
    found = np.asarray(identity.five_points(LANDMARKS))
    np.testing.assert_allclose(found[:, 0], LANDMARKS[:, 36:42, :2].mean(1), atol=1e-4)
    np.testing.assert_allclose(found[:, 1], LANDMARKS[:, 42:48, :2].mean(1), atol=1e-4)
    np.testing.assert_array_equal(found[:, 2:], LANDMARKS[:, [30, 48, 54], :2])
    np.testing.assert_array_equal(identity.five_points(LANDMARKS[..., :2]), found)
    upright = np.asarray(identity.five_points(face.TEMPLATE[None].astype(np.float32)))[0]
    assert upright[0, 0] < upright[2, 0] < upright[1, 0]  # left in the picture first, as in the template
    assert upright[3, 0] < upright[4, 0]


def _reference(points):
    """The inverse of scikit-image's estimate from the points to the template."""
    estimate = skimage.transform.SimilarityTransform.from_estimate(points, identity.TEMPLATE)
    return np.linalg.inv(estimate.params)


def test_similarity_is_that_of_scikit_image():
    points = np.asarray(identity.five_points(LANDMARKS))
    noisy = points + RNG.normal(size=points.shape).astype(np.float32) * 5
    for batch in (points, noisy):
        wanted = np.stack([_reference(example)[:2] for example in batch.astype(np.float64)])
        np.testing.assert_allclose(identity.similarity(batch), wanted, atol=1e-3, rtol=1e-4)


def test_faces_are_cut_out_as_by_scikit_image_and_opencv():
    points = np.asarray(identity.five_points(LANDMARKS))
    found = np.asarray(ALIGN(IMAGES, points))
    assert found.shape == (3, 112, 112, 3)
    np.testing.assert_allclose(identity.align(IMAGES, points), found, atol=2e-2)
    assert (found[2] == 0).all(-1).any()  # a part of this face's square is outside its picture
    for image, example, aligned in zip(IMAGES, points, found, strict=True):
        inverse = _reference(example.astype(np.float64))
        wanted = skimage.transform.warp(image, skimage.transform.SimilarityTransform(inverse), order=1,
                                        output_shape=(112, 112), preserve_range=True)
        inside = skimage.transform.warp(np.ones(image.shape[:2]), skimage.transform.SimilarityTransform(inverse),
                                        order=1, output_shape=(112, 112)) == 1
        assert inside.mean() > 0.2
        np.testing.assert_allclose(aligned[inside], wanted[inside], atol=5e-2)
        opencv = cv2.warpAffine(image, np.linalg.inv(inverse)[:2], (112, 112), flags=cv2.INTER_LINEAR)
        np.testing.assert_allclose(aligned, opencv, atol=3)  # which works with 1/32 px, and rounds


def test_aligned_points_lie_at_the_template():
    """A dot painted at each of the five points of a face that the template fits exactly."""
    points = (identity.TEMPLATE - 56) @ np.array([[0, 2], [-2, 0]], np.float32) + 130
    image = np.zeros(IMAGES.shape[1:], np.uint8)
    y, x = np.mgrid[:image.shape[0], :image.shape[1]]
    for px, py in points:
        image |= (255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 50)).astype(np.uint8)[..., None]
    aligned = np.asarray(ALIGN(np.stack([image] * 3), np.stack([points] * 3)))[0, ..., 0]
    for px, py in identity.TEMPLATE:
        near = np.s_[round(py) - 5:round(py) + 6, round(px) - 5:round(px) + 6]
        top = np.unravel_index(aligned[near].argmax(), (11, 11))
        assert np.hypot(top[0] - 5, top[1] - 5) <= 1


@pytest.fixture(scope='module')
def narrow():
    """Random parameters of a narrow network of each back end's kind."""
    networks = {'mobilefacenet': MobileFaceNet(2), 'iresnet50': IResNet((2, 2, 2, 2, 2), (1, 1, 1, 1), 6)}
    faces = np.zeros((1, 112, 112, 3), np.float32)
    shapes = {name: jax.eval_shape(network.init, jax.random.key(0), faces)['params']
              for name, network in networks.items()}
    return jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32) * 0.3, shapes)


@pytest.mark.parametrize('backend', ['mobilefacenet', 'iresnet50'])
def test_embeddings_have_length_one_and_degenerate_faces_are_finite(backend, narrow):
    odd = np.stack([np.zeros((68, 3)), np.full((68, 3), 100), face.TEMPLATE * 1e-3, face.TEMPLATE * 1e4,
                    face.TEMPLATE * [-1, 1, 1], np.arange(68)[:, None] * np.ones(3)])
    landmarks = np.concatenate([LANDMARKS[1:2], odd]).astype(np.float32)
    images = np.repeat(IMAGES[1:2], len(landmarks), 0)
    found = np.asarray(jax.jit(identity.embed, static_argnums=0)(backend, narrow[backend], images, landmarks))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found[0]), 1, rtol=1e-5)
    assert (np.linalg.norm(found, axis=-1) < 1 + 1e-5).all()


def test_unknown_back_ends_are_refused():
    with pytest.raises(UserError, match="'facenet': unknown; want one of iresnet100, iresnet50, mobilefacenet"):
        identity.embed('facenet', {}, IMAGES, LANDMARKS)


def test_the_same_person_is_nearer_than_others_in_every_pair_of_portraits(shared_data):
    params = convert.convert(convert.read(shared_data / 'models/foamliu_MobileFaceNet.onnx'))
    embed = jax.jit(identity.embed, static_argnums=0)
    embeddings = {}
    with face_tracking.MediaPipeDetector(shared_data / 'models/face_landmarker.task') as detector:
        for path in sorted((shared_data / 'portraits').iterdir()):
            image = media.read_image(path)
            found = detector.detect([image])
            assert found.detected.all(), path
            square = np.zeros((2204, 970, 3), np.uint8)  # the largest: one shape, so that one program serves all
            square[:image.shape[0], :image.shape[1]] = image
            embeddings[path.stem] = np.asarray(embed('mobilefacenet', params, square[None], found.landmarks))[0]
    names = list(embeddings)
    cosines = {(a, b): float(embeddings[a] @ embeddings[b]) for i, a in enumerate(names) for b in names[i + 1:]}
    same = cosines.pop(('obama', 'obama2'))
    assert len(cosines) == 20
    assert same > max(cosines.values()) + 0.1
