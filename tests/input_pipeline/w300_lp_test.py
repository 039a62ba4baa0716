"""300W-LP in miniature: a small face model, its pictures and parameters, to position maps that a network learns."""

import csv
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds

from configs import w300_lp
from input_pipeline import basel_face_model, dataset, media, position_maps, prepare, quarantine, uv_space
from input_pipeline.datasets.w300_lp import w300_lp_dataset_builder as builder
from input_pipeline.synthetic import expression, surface
from input_pipeline.synthetic.identity import make_identity
from talkinghead_jax import evaluation
from talkinghead_jax.errors import Unusable, UserError
from talkinghead_jax.geometry import face
from talkinghead_jax.stages.unprojection import landmark_error, mean_over_faces

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIZE = surface.UV_SIZE  # maps of this size hold the miniature model's own vertices
HEIGHT, WIDTH = 210, 190
UNIT = 600.0  # of the model, a crop px: its millimetres are micrometres
SHAPES, EXPRESSIONS = 3, 2

pytestmark = pytest.mark.usefixtures('quick_compilation')


def model_points(points):
    """Crop px -> the model's unit, y up, (3 V,) with x, y, z of each vertex together."""
    return ((points - face.CENTROID) * [UNIT, -UNIT, UNIT]).reshape(-1)


@pytest.fixture(scope='module')
def published():
    """What BFM.mat and BFM_UV.mat hold: our own surface, people and expressions in the published layout."""
    neutral = surface.surface_vertices(surface.CONTROLS)
    people = [surface.surface_vertices(make_identity(0, i).controls) - neutral for i in range(SHAPES)]
    smiles = [surface.surface_vertices(expression.express(surface.CONTROLS, np.eye(6)[i:i + 1])[0]) - neutral
              for i in range(EXPRESSIONS)]
    nearest = ((surface.VERTEX_UV[:, None] - surface.CONTROL_UV[None, :68]) ** 2).sum(-1).argmin(0)
    shift = np.full(neutral.size, 10.0)
    model = {
        'shapeMU': (model_points(neutral) - shift)[:, None], 'expMU': shift[:, None],
        'shapePC': np.stack([model_points(person + face.CENTROID) / 1e5 for person in people], axis=1),
        'expPC': np.stack([model_points(smile + face.CENTROID) for smile in smiles], axis=1),
        'shapeEV': np.ones((SHAPES, 1)), 'expEV': np.ones((EXPRESSIONS, 1)),
        'tri': surface.TRIANGLES[:-9].T + 1, 'tri_mouth': surface.TRIANGLES[-9:].T + 1, 'kpt_ind': nearest[None] + 1,
    }
    return model, surface.VERTEX_UV * [1, -1] + [0, 1]


@pytest.fixture(scope='module')
def bfm(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp('media') / 'BFM'
    folder.mkdir()
    scipy.io.savemat(folder / 'BFM.mat', {'model': published[0]})
    scipy.io.savemat(folder / 'BFM_UV.mat', {'UV': published[1]})
    return folder


def draw_parameters(seed):
    rng = np.random.default_rng(seed)
    pose = np.concatenate([rng.uniform(-0.5, 0.5, 3), rng.uniform(80, 110, 2), [rng.uniform(-50, 50)],
                           [rng.uniform(0.9, 1.1) / UNIT]])
    return {'Shape_Para': rng.normal(size=(SHAPES, 1)) * 5e4, 'Exp_Para': rng.uniform(0, 1, (EXPRESSIONS, 1)),
            'Pose_Para': pose[None]}


def project(model, parameters):
    """(V, 3) px of the picture, from 0, y down: vertex by vertex as the 3DDFA paper has it, in double precision."""
    values = (model['shapeMU'] + model['expMU'] + model['shapePC'] @ parameters['Shape_Para']
              + model['expPC'] @ parameters['Exp_Para'])[:, 0]
    pitch, yaw, roll, *shift, scale = parameters['Pose_Para'][0]
    turns = [np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]),
             np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]]),
             np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]])]
    placed = []
    for i in range(len(values) // 3):
        point = scale * turns[0] @ turns[1] @ turns[2] @ values[3 * i:3 * i + 3] + shift
        matlab = point[0], HEIGHT + 1 - point[1]  # the first pixel is 1, and y counts from above
        placed.append([matlab[0] - 1, matlab[1] - 1, point[2]])
    return np.array(placed)


def write_picture(stem, model, seed, marked=(36, 45, 8)):
    """A black picture with a red, a green and a blue spot at three key points, and its parameters."""
    parameters = draw_parameters(seed)
    key_points = project(model, parameters)[model['kpt_ind'][0] - 1]
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 50)
                      for x, y, _ in key_points[list(marked)]], axis=-1)
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix('.jpg').write_bytes(media.encode_jpeg(np.rint(image).astype(np.uint8)))
    scipy.io.savemat(stem.with_suffix('.mat'), {**parameters, 'pt2d': key_points[:, :2].T, 'roi': np.ones((1, 4))})
    return parameters


@pytest.fixture(scope='module')
def tree(published, bfm):
    """The folder that the archives were unpacked in: three good pictures, four bad ones, two for the test."""
    root, model = bfm.parent, published[0]
    for seed, name in enumerate(('AFW/one', 'AFW/two', 'AFW/broken', 'AFW_Flip/one', 'HELEN/alien', 'HELEN/lost',
                                 'HELEN/away')):
        write_picture(root / '300W_LP' / name, model, seed)
    for seed, name in enumerate(('image00002', 'image00004')):
        write_picture(root / 'AFLW2000' / name, model, 10 + seed)
    (root / '300W_LP/AFW/broken.jpg').write_bytes((root / '300W_LP/AFW/broken.jpg').read_bytes()[:300])
    scipy.io.savemat(root / '300W_LP/HELEN/alien.mat', {**draw_parameters(4), 'Shape_Para': np.zeros((199, 1))})
    (root / '300W_LP/HELEN/lost.mat').unlink()
    elsewhere = draw_parameters(6)
    elsewhere['Pose_Para'][0, 3] = 5000
    scipy.io.savemat(root / '300W_LP/HELEN/away.mat', elsewhere)
    (root / '300W_LP/Code').mkdir()
    return root


@pytest.fixture(scope='module')
def space(bfm):
    return position_maps.open_space(str(bfm), SIZE)


def test_uv_sampling_equals_brute_force():
    rng = np.random.default_rng(0)
    uv = rng.uniform(-2, 17, (12, 2))
    triangles = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]], np.int32)
    values = rng.normal(size=(12, 2))
    sampling = uv_space.sample(uv, triangles, 16)
    expected = np.zeros((16, 16, 2))
    for row in range(16):
        for column in range(16):
            for corners in triangles:  # the last one that covers the pixel is seen
                system = np.concatenate([uv[corners].T, np.ones((1, 3))])
                weights = np.linalg.solve(system, [column, row, 1])
                if (weights >= 0).all():
                    expected[row, column] = weights @ values[corners]
    assert 40 < (expected != 0).any(-1).sum() < 250
    np.testing.assert_array_equal(sampling.covered, (expected != 0).any(-1))
    np.testing.assert_allclose(sampling.map(values), expected, atol=1e-4)


def test_maps_hold_the_projected_vertices(published, tree, space):
    """Every vertex, at its own place in UV, lies where a plain projection of the model puts it."""
    model = published[0]
    valid = space.mask[surface.UV_MASK] > 0  # of the vertices: all but the neck
    assert 0.85 < valid.mean() < 0.99
    for seed, name in enumerate(('AFW/one', 'AFW/two')):
        stem = tree / '300W_LP' / name
        made = position_maps.make_record(f'{stem}.jpg', f'{stem}.mat', space)
        expected = project(model, draw_parameters(seed))
        found = made['position_map'][surface.UV_MASK][valid].astype(np.float64)
        assert not made['position_map'][space.mask == 0].any()
        # The crop is a similarity without turn: find it from the map, then all vertices must obey it.
        scale = np.ptp(found[:, 0]) / np.ptp(expected[valid, 0])
        shift = found.mean(0) - scale * expected[valid].mean(0)
        np.testing.assert_allclose(found, scale * expected[valid] + shift, atol=0.01)
        landmarks = scale * expected[model['kpt_ind'][0] - 1] + shift
        assert abs(landmarks[36:48, 1].mean() - 100) < 1.5  # the framing of every crop
        assert abs(np.ptp(landmarks[:, :2], axis=0).max() - 256 / (205 / 90)) < 1
        rigid = list(face.RIGID_POINTS)
        np.testing.assert_allclose(landmarks[rigid, 2].mean(), face.TEMPLATE[rigid, 2].mean(), atol=0.01)


def test_picture_and_map_agree(published, tree, space):
    """The three spots of the picture are where the map says that the three key points are."""
    made = position_maps.make_record(f'{tree}/300W_LP/AFW/two.jpg', f'{tree}/300W_LP/AFW/two.mat', space)
    image = media.decode_jpeg(made['image']).astype(np.float64)
    assert image.shape == (SIZE, SIZE, 3)
    at = np.rint(position_maps.to_pixels(published[1][published[0]['kpt_ind'][0] - 1], SIZE)).astype(int)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for channel, point in enumerate((36, 45, 8)):
        x, y = (made['position_map'][at[point, 1], at[point, 0], :2] + 0.5) * SIZE / 256 - 0.5
        bright = np.clip(image[..., channel] - 20, 0, None)
        np.testing.assert_allclose([(bright * columns).sum() / bright.sum(), (bright * rows).sum() / bright.sum()],
                                   [x, y], atol=0.15)


def test_weights_follow_the_regions(space, published):
    ratio = space.weight / space.weight[space.mask > 0].min()
    np.testing.assert_allclose(space.weight[space.mask > 0].mean(), 1, rtol=1e-5)
    assert not space.weight[space.mask == 0].any()
    np.testing.assert_allclose(np.unique(ratio[space.mask > 0].round(3)), [1, 4 / 3, 16 / 3], atol=1e-3)
    at = np.rint(position_maps.to_pixels(published[1][published[0]['kpt_ind'][0] - 1], SIZE)).astype(int)
    np.testing.assert_allclose(ratio[at[:, 1], at[:, 0]], 16 / 3, rtol=1e-3)
    middle = np.rint((at[39] + at[42]) / 2).astype(int)  # between the eyes
    np.testing.assert_allclose(ratio[middle[1], middle[0]], 4 / 3, rtol=1e-3)
    np.testing.assert_allclose(ratio[5, 32], 1, rtol=1e-3)  # the forehead
    neck = at[8, 1] + 4, at[8, 0]
    assert space.sampling.covered[neck]
    assert not space.mask[neck]


def test_published_masks_are_taken_where_they_fit(bfm, tmp_path, shared_data):
    for name in ('BFM.mat', 'BFM_UV.mat'):
        shutil.copy(bfm / name, tmp_path)
    for name in (position_maps.MASK, position_maps.WEIGHTS):
        shutil.copy(shared_data / 'topology/prnet_uv-data' / name, tmp_path)
    space = position_maps.open_space(str(tmp_path), 256)
    mask = media.read_image(tmp_path / position_maps.MASK)[..., 0] > 0
    weights = media.read_image(tmp_path / position_maps.WEIGHTS)[..., 0]
    np.testing.assert_array_equal(space.mask > 0, mask & space.sampling.covered)
    np.testing.assert_allclose(space.weight / space.weight.max(), np.where(space.mask > 0, weights / 255, 0),
                               atol=1e-6)


def test_weighted_loss_and_landmark_error_equal_loops():
    rng = np.random.default_rng(1)
    values, weight, mask = rng.random((3, 4, 4)), rng.random((4, 4)) * (rng.random((4, 4)) < 0.7), [True, False, True]
    total = sum(values[b, i, j] * weight[i, j] for b in (0, 2) for i in range(4) for j in range(4))
    found = mean_over_faces(*map(jax.numpy.asarray, (values, weight, mask)))
    np.testing.assert_allclose(found, total / (2 * weight.sum()), rtol=1e-5)
    weight[0, 1] = weight[2, 3] = weight[3, 0] = 5
    predicted, true = rng.random((2, 2, 4, 4, 3)) * 100
    found = landmark_error(*map(jax.numpy.asarray, (predicted, true, weight)))
    for b in range(2):
        points = [(predicted[b, i, j, :2], true[b, i, j, :2]) for i, j in ((0, 1), (2, 3), (3, 0))]
        box = np.ptp([point for _, point in points], axis=0)
        expected = np.mean([np.linalg.norm(p - t) for p, t in points]) / np.sqrt(box[0] * box[1])
        np.testing.assert_allclose(found[b], 100 * expected, rtol=1e-4)


def _config(tree):
    config = w300_lp.get_config()
    config.image_size = 16
    config.data.update({'media': str(tree), 'bfm': str(tree / 'BFM'), 'workers': 1})
    config.unprojection.update({'steps': 3, 'batch_size': 2})
    config.unprojection.model.width = 4
    return config


@pytest.fixture(scope='module')
def prepared(tree, tmp_path_factory):
    config, data_dir = _config(tree), tmp_path_factory.mktemp('data')
    return config, data_dir, prepare.prepare(config, data_dir)


def test_broken_pictures_go_to_quarantine(prepared):
    _, data_dir, summary = prepared
    assert summary['position_maps'] == {'train': 3, 'test': 2}
    assert summary['quarantined'] == {'unreadable': 4}
    with open(data_dir / quarantine.TABLE, newline='') as file:
        details = {row['clip']: row['detail'] for row in csv.DictReader(file)}
    assert 'broken.jpg is not a picture' in details.pop('AFW/broken')
    assert 'Shape_Para is (199, 1); want 3 numbers' in details.pop('HELEN/alien')
    assert 'lost.mat does not exist' in details.pop('HELEN/lost')
    assert '0 of 68 key points in the picture' in details.pop('HELEN/away')
    assert not details


def test_prepared_data_need_their_sources_no_more(prepared):
    config, data_dir, _ = prepared
    elsewhere = w300_lp.get_config()
    elsewhere.update(config)
    elsewhere.data.update({'media': '', 'bfm': ''})
    assert prepare.key_of(elsewhere) == prepare.key_of(config)
    data = dataset.open_dataset(data_dir)
    metadata = data.metadata
    count = data.axes['vertices']
    assert count == metadata['uv_mask'].sum()
    assert metadata['triangles'].max() < count
    assert len(np.unique(metadata['triangles'])) > 0.98 * count  # a lone pixel may be on no triangle
    maps = np.stack([data.read('train', i, 'position_maps')['position_map'] for i in range(3)])
    np.testing.assert_allclose(metadata['uv_mean'], maps.mean(0), atol=1e-3)
    # On average the triangles face the viewer.
    corners = maps[0][metadata['uv_mask'] > 0][metadata['triangles']]
    assert (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0).mean() > 0.7


def test_launch_trains_and_evaluates_without_the_sources(prepared, tmp_path):
    config, data_dir, _ = prepared
    own = config.unprojection
    flags = [f'--config.image_size={config.image_size}', f'--config.unprojection.steps={own.steps}',
             f'--config.unprojection.batch_size={own.batch_size}',
             f'--config.unprojection.model.width={own.model.width}']
    run = subprocess.run(
        [sys.executable, str(ROOT / 'launch.py'), '--config=configs/w300_lp.py', '--mode=prepare,train,evaluate',
         f'--workdir={tmp_path}', f'--config.data.directory={data_dir}', *flags], cwd=ROOT, text=True,
        capture_output=True, env={**os.environ, 'XLA_FLAGS': ''}, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert 'left out: 4 (4 unreadable)' in run.stdout
    found = evaluation.load(tmp_path / 'evaluation', 'unprojection')
    assert (found.n, found.step) == (2, own.steps)
    for method in ('model', 'mean_shape'):
        assert 0 < found.means[method]['vertex_error_percent'] < 300
        assert 0 < found.means[method]['nme_68_percent'] < 300


def test_plain_build_reads_the_manual_folder(prepared, tree, tmp_path):
    config, data_dir, _ = prepared
    settings = {**builder.Builder.settings_of(config), 'media': '', 'bfm': ''}
    built = builder.Builder(data_dir=tmp_path, settings=settings, cache=data_dir / 'cache')
    built.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tree))
    assert built.info.splits['train'].num_examples == 3
    name = 'w300_lp/position_maps/1.0.0/w300_lp-train.tfrecord-00000-of-00001'
    assert (tmp_path / name).read_bytes() == (data_dir / name).read_bytes()
    metadata = builder.Builder.get_metadata()
    assert metadata.description
    assert metadata.citation
    assert metadata.tags


def test_trees_are_found_and_missing_ones_named(tree, bfm, tmp_path):
    found = builder.pictures(tree)
    assert [picture.name for picture in found] == [
        'AFW/broken', 'AFW/one', 'AFW/two', 'AFW_Flip/one', 'HELEN/alien', 'HELEN/away', 'HELEN/lost',
        'AFLW2000/image00002', 'AFLW2000/image00004']
    assert builder.pictures(tree / '300W_LP') == found
    with pytest.raises(UserError, match='holds none of the folders of 300W-LP'):
        builder.pictures(tmp_path)
    config = _config(tree)
    for name in ('media', 'bfm'):
        config.data.update({'media': str(tree), 'bfm': str(bfm), name: ''})
        with pytest.raises(UserError, match=rf"config\.data\.{name} is ''; want the folder"):
            prepare.prepare(config, tmp_path / 'data')


def test_a_face_model_that_does_not_fit_is_the_users_mistake(published, space, tmp_path):
    model, uv = published
    with pytest.raises(UserError, match=r'BFM\.mat does not exist; want the Basel Face Model'):
        basel_face_model.load(tmp_path)
    scipy.io.savemat(tmp_path / 'BFM.mat', {'model': model})
    scipy.io.savemat(tmp_path / 'BFM_UV.mat', {'UV': uv[:-1]})
    with pytest.raises(UserError, match=r'do not fit together: found shapeMU \(9912, 1\)'):
        basel_face_model.load(tmp_path)
    scipy.io.savemat(tmp_path / 'BFM.mat', {'model': {name: model[name] for name in ('shapeMU', 'tri')}})
    scipy.io.savemat(tmp_path / 'BFM_UV.mat', {'UV': uv})
    with pytest.raises(UserError, match=r'BFM\.mat holds no shapePC; it holds shapeMU, tri'):
        basel_face_model.load(tmp_path)
    (tmp_path / 'BFM_UV.mat').write_text('no MATLAB file')
    with pytest.raises(UserError, match=r'BFM_UV\.mat is no MATLAB file'):
        basel_face_model.load(tmp_path)
    with pytest.raises(Unusable, match='is no MATLAB file'):
        position_maps.make_record('picture.jpg', tmp_path / 'BFM_UV.mat', space)
