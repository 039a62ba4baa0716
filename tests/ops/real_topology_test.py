"""Both rasterizers on meshes as they occur: PRNet's own topology under large yaws, and a real clip's tracked mesh.

The reference evaluates the formulas of `soft_rasterizer.rasterize` in float64 over all 86,907 triangles, at some
pixels. PRNet's mean face holds what made-up meshes lack: thousands of points that coincide, so that some 9 % of its
triangles have no area, and folds at the ears and nostrils.
"""

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import expit

from benchmarks import meshes
from input_pipeline import face_tracking, media, preprocess
from input_pipeline.mediapipe_mapping import mesh_triangles
from talkinghead_jax.ops import hard_rasterizer, soft_rasterizer

SIZE = 256
EYE, NEAR, FAR = 6000.0, 1.0, 10_000.0
SIGMA, GAMMA, CUTOFF = 1e-5 * (SIZE / 2) ** 2, 1e-4, 1e-4  # px^2 and SoftRas's constants: the defaults
YAWS = (-60, 0, 60)  # degrees, of a batch of three
PIXELS = 50  # a pose inside, at the outline, and outside


@pytest.fixture(scope='module')
def face(shared_data):
    return meshes.prnet_face(shared_data / meshes.FOLDER)


@pytest.fixture(scope='module')
def poses(face):
    return meshes.posed(face, len(YAWS))


@pytest.fixture(scope='module')
def drawn_hard(face, poses):
    colours = np.broadcast_to(face.colours, poses.shape)
    return [np.asarray(x) for x in hard_rasterizer.rasterize(poses, face.triangles, colours, SIZE)]


@pytest.fixture(scope='module')
def samples(face, poses):
    """Of each pose: columns, rows, and what `Reference` finds there, arrays of N or (N, 3)."""
    rng = np.random.default_rng(0)
    found = []
    for points in poses:
        reference = Reference(points, face.triangles, face.colours)
        pixels = np.concatenate([rng.choice(np.argwhere(mask), PIXELS, replace=False) for mask in kinds(points)])
        wanted = [reference(column, row) for row, column in pixels]
        found.append((*pixels.T[::-1], *(np.array(values) for values in zip(*wanted, strict=True))))
    return found


def kinds(points):
    """Pixels inside, at most 2 px from the outline, and outside; from the vertices, which are dense."""
    covered = np.zeros((SIZE, SIZE), bool)
    columns, rows = np.rint(points[:, :2]).astype(int).T
    covered[rows, columns] = True
    covered = ndimage.binary_closing(covered, iterations=2)
    inner, outer = ndimage.binary_erosion(covered, iterations=2), ndimage.binary_dilation(covered, iterations=2)
    return inner, outer & ~inner, ~outer


class Reference:
    """SoftRas at one place over all triangles, in float64."""

    def __init__(self, points, triangles, colours):
        self.x, self.y, self.z = np.moveaxis(points[triangles].astype(np.float64), 0, -1).swapaxes(0, 1).copy()
        self.colours = colours[triangles].astype(np.float64)  # (F, 3, 3)
        self.edge_x, self.edge_y = np.roll(self.x, -1, 0) - self.x, np.roll(self.y, -1, 0) - self.y
        self.length = self.edge_x ** 2 + self.edge_y ** 2
        self.area = self.edge_x[0] * self.edge_y[1] - self.edge_y[0] * self.edge_x[1]

    def __call__(self, x, y):
        """Image (3,), alpha, depth; number and z of the nearest triangle that contains the place, or -1 and 0."""
        dx, dy = x - self.x, y - self.y
        along = (dx * self.edge_x + dy * self.edge_y) / np.where(self.length == 0, 1, self.length)
        along = along.clip(0, 1)
        squared = ((dx - along * self.edge_x) ** 2 + (dy - along * self.edge_y) ** 2).min(0)
        beside = (self.edge_x * dy - self.edge_y * dx) / np.where(self.area == 0, 1, self.area)
        w = np.roll(beside, -1, 0)  # edge 1 lies opposite corner 0
        solid = self.area != 0
        inside = solid & (w >= 0).all(0)
        coverage = expit(np.where(inside, squared, -squared) / SIGMA)
        taken = np.flatnonzero(inside | (solid & (coverage > CUTOFF)))
        coverage = coverage[taken]
        n = w[:, taken].clip(0, 1)
        n /= np.maximum(n.sum(0), 1e-5)
        distance = 1 / (n / (EYE - self.z[:, taken])).sum(0)
        shown = (distance >= NEAR) & (distance <= FAR)
        normalised = np.where(shown, (FAR - distance) / (FAR - NEAR), -np.inf)
        exponent = np.append(normalised, 2e-3) / GAMMA  # the background's comes last
        weight = np.append(coverage, 1) * np.exp(exponent - exponent.max())
        share = weight[:-1] / weight.sum()
        image = share @ np.einsum('kf,fkc->fc', n, self.colours[taken])
        number, z = -1, 0.0
        if inside.any():
            nearest = np.where(inside[taken], distance, np.inf).argmin()
            number, z = taken[nearest], EYE - distance[nearest]
        return image, 1 - np.prod(1 - coverage), share @ (EYE - distance), number, z


def test_prnets_mesh_is_not_a_tame_one(face, samples):
    """What the other tests here rely on."""
    corners = face.vertices[face.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    assert 7000 < (area < 1e-6).sum() < 9000
    for _, _, _, alpha, *_ in samples:
        assert (alpha[:PIXELS] > 0.5).all()
        assert ((alpha > 1e-3) & (alpha < 0.5)).sum() >= 3
        assert (alpha[2 * PIXELS:] == 0).all()


def test_soft_picture_is_the_all_pairs_picture(face, poses, samples):
    colours = np.broadcast_to(face.colours, poses.shape)
    image, alpha, depth = soft_rasterizer.rasterize(poses, face.triangles, colours, SIZE)
    for i, (x, y, wanted_image, wanted_alpha, wanted_depth, *_) in enumerate(samples):
        np.testing.assert_allclose(np.asarray(image)[i, y, x], wanted_image, atol=1e-5)
        np.testing.assert_allclose(np.asarray(alpha)[i, y, x], wanted_alpha, atol=1e-5)
        np.testing.assert_allclose(np.asarray(depth)[i, y, x], wanted_depth, atol=2e-4)


def test_z_buffer_shows_the_nearest_triangle(face, drawn_hard, samples):
    _, depth, number = drawn_hard
    for i, (x, y, *_, wanted_number, wanted_depth) in enumerate(samples):
        found = number[i, y, x]
        np.testing.assert_allclose(depth[i, y, x], wanted_depth, atol=1e-3)
        np.testing.assert_array_equal(found >= 0, wanted_number >= 0)
        assert (found == wanted_number).mean() > 0.98  # others are as near: their depth says so


def test_z_buffer_leaves_no_cracks(drawn_hard):
    covered = drawn_hard[2] >= 0
    for mask in covered:
        np.testing.assert_array_equal(mask, ndimage.binary_fill_holes(mask))
    assert (covered.sum((1, 2)) > 10_000).all()


@pytest.fixture(scope='module')
def seen(face, poses):
    return np.asarray(hard_rasterizer.vertex_visibility(poses, face.triangles, SIZE)) > 0


def test_far_side_of_the_head_is_not_seen(face, poses, seen):
    x = face.vertices[:, 0]
    left, middle, right = x < -70, np.abs(x) < 20, x > 70
    turned_left, frontal, turned_right = seen
    assert frontal.mean() > 0.94
    assert min(frontal[left].mean(), frontal[right].mean()) > 0.9
    assert not turned_left[left].any()
    assert not turned_right[right].any()
    assert min(turned_left[right].mean(), turned_right[left].mean()) > 0.99
    for turned in (turned_left, turned_right):
        assert 0.7 < turned[middle].mean() < 0.8  # the nose hides what lies beside it
    # Wound the other way, the head shows its inside: only what is folded over.
    assert np.asarray(hard_rasterizer.vertex_visibility(poses, face.triangles[:, ::-1], SIZE)).mean() < 0.05


def test_seen_vertices_are_those_with_nothing_before_them(face, poses, seen):
    rng = np.random.default_rng(1)
    for points, found in zip(poses, seen, strict=True):
        reference = Reference(points, face.triangles, face.colours)
        normal = np.zeros(len(points))
        np.add.at(normal, face.triangles, reference.area[:, None])
        assert not found[normal < -1e-3].any()
        for is_seen in (True, False):
            group = np.flatnonzero((found == is_seen) & (normal > 1e-3))
            chosen = points[rng.choice(group, 30, replace=False)].astype(np.float64)
            surface = np.array([reference(x, y)[-1] for x, y, _ in chosen])
            free = chosen[:, 2] >= surface - 2  # px: the tolerance
            # At a contour the z-buffer's pixels are coarser than the triangles.
            assert (free == is_seen).mean() > 0.9


def subdivided(points, triangles):
    """Each triangle as four, through the middles of its edges."""
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    unique, place = np.unique(edges, axis=0, return_inverse=True)
    ab, bc, ca = len(points) + place.reshape(3, -1)
    a, b, c = triangles.T
    quarters = [np.stack(corners, -1) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.concatenate([points, points[unique].mean(1)]), np.concatenate(quarters).astype(np.int32)


@pytest.fixture(scope='module')
def clip(shared_data):
    """The record of a sharp film's first second."""
    with face_tracking.MediaPipeDetector(shared_data / 'models' / face_tracking.LANDMARKER) as detector:
        return preprocess.prepare_media(shared_data / 'clips/hdtf/WDA_AlexandriaOcasioCortez_000.mp4', detector,
                                        options=preprocess.Options(image_size=SIZE), max_frames=25)


def test_tracked_mesh_with_its_colours_is_the_frame(clip):
    frame = media.decode_jpeg(clip['video'][int(clip['key_frame'])]).astype(np.float32) / 255
    points, triangles = clip['mesh_vertices'], mesh_triangles()
    for _ in range(3):
        points, triangles = subdivided(points, triangles)
    assert len(triangles) > 50_000
    colours = np.stack([ndimage.map_coordinates(frame[..., c], points[:, 1::-1].T, order=1, mode='nearest')
                        for c in range(3)], axis=-1)
    soft, alpha, _ = soft_rasterizer.rasterize(points[None], triangles, colours[None], SIZE)
    hard = hard_rasterizer.rasterize(points[None], triangles, colours[None], SIZE)
    covered = np.asarray(hard.triangle[0]) >= 0

    def psnr(image):
        return -10 * np.log10(((np.asarray(image) - frame)[covered] ** 2).mean())

    assert psnr(soft[0]) > 35  # dB; drawn half a pixel beside its place, even the z-buffer's has 30
    assert psnr(hard.image[0]) > 38.5
    assert np.asarray(alpha)[0][covered].min() > 0.499  # as inside any triangle
    np.testing.assert_array_equal(covered, ndimage.binary_fill_holes(covered))
    assert covered.sum() > 10_000
