"""Exports serve without this project, say what they are, and are whole or not there."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from configs import demo
from talkinghead_jax import export, specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.export import folders
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.models import head_motion
from talkinghead_jax.stages import registry
from talkinghead_jax.synthesis import network
from talkinghead_jax.train import checkpoint
from talkinghead_jax.train.state import TrainState

GRID, SIZE, COMPONENTS = 6, 16, 4
RADIUS = head_motion.RADIUS
READ = {  # what each function takes of a batch
    ('expression', 'predict'): {'audio', 'reference_frontal', 'identity'},
    ('head_motion', 'predict'): {'context_pose', 'context_audio', 'context_mask', 'audio', 'frame_mask'},
    ('head_motion', 'read'): {'context_pose', 'context_audio', 'context_mask', 'audio', 'frame_mask'},
    ('head_motion', 'follow'): {'audio', 'frame_mask', 'first', *(f'person/{name}' for name in (
        'level', 'scale', 'centre', 'first', 'second', 'step'))},
    ('unprojection', 'predict'): {'image'},
    ('generator', 'predict'): {
        'references', 'reference_landmarks', 'reference_pose', 'reference_mask', 'key_image', 'key_landmarks',
        'key_pose', 'mesh_vertices', 'mesh_visibility', 'target_landmarks', 'target_pose'},
}

pytestmark = pytest.mark.usefixtures('quick_compilation')


def tiny_config():
    config = demo.get_config()
    config.image_size = SIZE
    config.expression.model.update({'width': 8, 'components': COMPONENTS})
    config.head_motion.model.update({'width': 8, 'hidden': 4, 'rank': 4})
    config.head_motion.losses.adversarial = 0.1  # a second player, which prediction does not need
    config.unprojection.model.update({'width': 2, 'residual': False, 'momentum': 0.9})  # PRNet's form
    config.generator.data.references = 2
    config.generator.model.update({'width': 4, 'max_width': 8, 'levels': 3, 'flow_downs': 1, 'flow_blocks': 1})
    config.generator.model.discriminator.update({'width': 4, 'max_width': 8})
    return config


def metadata():
    """Of a dataset: a sheet of GRID x GRID vertices, and plausible numbers."""
    rng = np.random.default_rng(1)
    index = np.arange(GRID ** 2).reshape(GRID, GRID)
    a, b, c, d = (x.ravel() for x in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    values = {
        'pca_mean': face.TEMPLATE, 'pca_basis': rng.normal(size=(COMPONENTS, 68, 3)) / 14,
        'pca_deviation': np.linspace(8, 1, COMPONENTS), 'speech_regression': np.zeros((specs.WINDOW_FEATURES, 4)),
        'pose_mean': np.full(6, 0.1), 'pose_deviation': np.array([0.1, 0.1, 0.1, 5, 5, 5]),
        'triangles': np.concatenate([np.stack([a, b, c], -1), np.stack([b, d, c], -1)]),
        'uv_mask': np.ones((SIZE, SIZE)), 'uv_weight': np.ones((SIZE, SIZE)), 'uv_mean': np.zeros((SIZE, SIZE, 3)),
    }
    return {name: value.astype(specs.METADATA[name].dtype) for name, value in values.items()}


def save(workdir, name, step=7, seed=0):
    """A checkpoint with random numbers, as training writes it; the average differs from the parameters."""
    rng = np.random.default_rng(seed)
    config, frozen = tiny_config(), metadata()
    stage = registry.make_stage(name, config, {'vertices': GRID ** 2, 'triangles': 50, 'components': COMPONENTS})

    def draw(x):
        scale = np.prod(x.shape[:-1]) ** -0.5
        return jnp.asarray(np.abs(rng.normal(scale=scale, size=x.shape)) if x.ndim == 1  # a variance is positive
                           else rng.normal(scale=scale, size=x.shape), x.dtype)

    params, model_state = jax.tree.map(draw, jax.eval_shape(stage.init, jax.random.key(0)))
    ema = {player.name: jax.tree.map(lambda x: x + 0.01, params[player.name])
           for player in stage.players if player.ema_decay}
    with checkpoint.Checkpoints(workdir, name, config, frozen) as checkpoints:
        checkpoints.save(step, TrainState(jnp.int32(step), params, {'net': jnp.zeros(1)}, model_state, ema))
    return params, ema


def fill(spec, seed):
    """A random batch, targets included; geometry is plausible."""
    rng = np.random.default_rng(seed)

    def draw(x):
        if x.dtype == np.bool_:
            return np.ones(x.shape, bool)
        if np.issubdtype(x.dtype, np.integer):
            return rng.integers(*{'uint8': (0, 256), 'int16': (-5000, 5000), 'int32': (0, 9)}[str(x.dtype)],
                                x.shape).astype(x.dtype)
        return rng.normal(scale=0.1, size=x.shape).astype(x.dtype)

    batch = jax.tree.map(draw, dict(spec))
    for name in batch:
        if name.endswith('landmarks'):
            batch[name] += face.TEMPLATE.astype(np.float32)
    if 'mesh_vertices' in batch:
        u, v = np.meshgrid(*[np.linspace(-60, 60, GRID)] * 2)
        sheet = (np.stack([u, v, 0 * u], -1).reshape(-1, 3) + face.CENTROID).astype(np.float32)
        batch['mesh_vertices'][:, :GRID ** 2] = rigid.apply_pose(
            np.broadcast_to(sheet, (len(batch['key_pose']), *sheet.shape)), batch['key_pose'])
        batch['mesh_visibility'][:] = 1
    return batch


def motion_batches(seed):
    """Of `read` and of `follow`, for one reference clip and a stretch of 5 frames that starts with frame 2."""
    whole = specs.head_motion_batch(2, RADIUS + 3, RADIUS)
    read = {name: value for name, value in whole.items() if name not in ('pose', 'mask')}
    sound = specs.head_motion_batch(2, 1, 5 + 2 * RADIUS)
    follow = {'audio': sound['audio'], 'frame_mask': sound['frame_mask'],
              'first': jax.ShapeDtypeStruct((2,), np.int32)}
    return fill(read, seed), fill(follow, seed)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """(workdir, folder of the exports, what `save` gave by stage)."""
    workdir = tmp_path_factory.mktemp('run')
    saved = {name: save(workdir, name) for name in registry.STAGES}
    for name in registry.STAGES:
        said = export.export(workdir, name, workdir / 'export' / name)
        assert said.startswith(f'{workdir}/export/{name}: {name}, step 7, weights ')
    return workdir, workdir / 'export', saved


def put(folder, stage, function, number, batch):
    """Where the child finds it: those fields of a batch that the export takes."""
    fields = {'/'.join(key.key for key in path): x for path, x in jax.tree_util.tree_leaves_with_path(batch)}
    np.savez(folder / f'{stage}.{function}.{number}.npz',
             **{name: x for name, x in fields.items() if name in READ[stage, function]})


@pytest.fixture(scope='module')
def expected(exported):
    """STAGE.FUNCTION.NUMBER -> outputs of `Network`; writes the batches for the child.

    Two sizes of each, but of the generator, which takes long to compile: it gets a size that it was not lowered with.
    """
    workdir, folder, _ = exported
    networks = {name: network.restore(workdir, name)[0] for name in registry.STAGES}
    results = {}
    for number, size in enumerate((3, 1)):
        for spec, stage in ((specs.expression_batch(size, 4 + size), 'expression'),
                            (specs.head_motion_batch(size, 9 + size, 4 + size), 'head_motion'),
                            (specs.unprojection_batch(size, SIZE), 'unprojection')):
            batch = fill(spec, number)
            put(folder, stage, 'predict', number, batch)
            results[f'{stage}.predict.{number}'] = networks[stage](batch)
    batch = fill(specs.generator_batch(2, 2, SIZE, GRID ** 2), 0)
    alone = [networks['generator'](jax.tree.map(lambda x, i=i: x[i:i + 1], batch)) for i in range(2)]
    results['generator.predict.0'] = jax.tree.map(lambda *x: np.concatenate(x), *alone)
    for name in ('mesh_vertices', 'mesh_visibility'):  # a vertex of no triangle: another number, the same picture
        batch[name] = np.concatenate([batch[name], batch[name][:, :1]], axis=1)
    put(folder, 'generator', 'predict', 0, batch)
    read, follow = motion_batches(5)
    put(folder, 'head_motion', 'read', 0, read)
    results['head_motion.read.0'] = person = networks['head_motion'].part('read', read)
    put(folder, 'head_motion', 'follow', 0, {**follow, 'person': person})
    results['head_motion.follow.0'] = networks['head_motion'].part('follow', {**follow, 'person': person})
    return results


def test_an_export_says_without_this_project_what_the_network_says_with_it(exported, expected, quick_flags):
    folder = exported[1]
    child = pathlib.Path(__file__).parent / 'export_child.py'
    run = subprocess.run([sys.executable, '-I', '-W', 'error', child, folder], cwd=folder, text=True, check=False,
                         stderr=subprocess.PIPE, env={**os.environ, 'XLA_FLAGS': quick_flags, 'JAX_PLATFORMS': 'cpu'})
    assert run.returncode == 0, run.stderr
    found = {path.name.removesuffix('.npz'): np.load(path) for path in (folder / 'outputs').iterdir()}
    assert len(found) == 9
    assert set(found) == set(expected)
    for call, arrays in expected.items():
        assert set(found[call]) == set(arrays)
        for name, value in arrays.items():
            assert np.ptp(value) > 1e-3, f'{call} {name} says nothing'
            np.testing.assert_allclose(found[call][name], value, rtol=1e-5, atol=1e-5, err_msg=f'{call} {name}')


def read_with_orbax(folder):
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(folder / 'checkpoint', args=ocp.args.Composite(
            weights=ocp.args.StandardRestore(), dataset=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore()))


def test_the_average_is_exported_and_what_only_training_needs_is_not(exported):
    _, folder, saved = exported
    _, ema = saved['generator']
    weights = read_with_orbax(folder / 'generator')['weights']
    assert weights.keys() == {'params', 'frozen'}
    assert weights['params'].keys() == {'gen'}
    jax.tree.map(np.testing.assert_array_equal, weights['params']['gen'], jax.tree.map(np.asarray, ema['gen']))
    assert weights['frozen'].keys() == {'triangles', 'pose_deviation'}
    with ocp.StandardCheckpointer() as checkpointer:  # the README's other way
        jax.tree.map(np.testing.assert_array_equal, weights,
                     checkpointer.restore(folder / 'generator' / 'checkpoint' / 'weights'))
    assert read_with_orbax(folder / 'head_motion')['weights']['params'].keys() == {'net'}  # and no critic
    assert read_with_orbax(folder / 'unprojection')['weights'].keys() == {'params', 'model_state'}


@pytest.mark.parametrize('stage', registry.STAGES)
def test_meta_says_what_it_is(exported, stage):
    workdir, folder, _ = exported
    found = read_with_orbax(folder / stage)
    meta, inference = found['meta'], checkpoint.load_for_inference(workdir, stage)
    assert (meta['stage'], meta['step'], meta['spec_version']) == (stage, 7, specs.SPEC_VERSION)
    assert meta['digest'] == inference.digest
    assert meta['config'] == json.loads(tiny_config().to_json())
    assert meta['versions']['jax'] == jax.__version__
    assert meta['platforms'] == ['cpu', 'cuda', 'tpu']
    assert meta['licence'].startswith('Apache-2.0')
    assert {(stage, name): set(about['inputs']) for name, about in meta['functions'].items()} == {
        call: read for call, read in READ.items() if call[0] == stage}
    assert meta['weights'] == described(found['weights'])
    assert {name: {key: about[key] for key in ('shape', 'dtype')} for name, about in meta['dataset'].items()
            } == described(found['dataset'])
    jax.tree.map(np.testing.assert_array_equal, dict(found['dataset']), metadata())
    readme = (folder / stage / 'README.md').read_text()
    for about in meta['functions'].values():
        assert all(f'| `{name}` | ' in readme for name in {**about['inputs'], **about['outputs']})


def described(tree):
    return {'/'.join(key.key for key in path): {'shape': list(x.shape), 'dtype': str(x.dtype)}
            for path, x in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize(('stage', 'function'), READ)
def test_programs_are_for_three_platforms_and_call_nothing_that_jax_does_not_promise(exported, stage, function):
    _, folder, _ = exported
    program = jax.export.deserialize(bytearray((folder / stage / f'{function}.exported').read_bytes()))
    assert program.platforms == ('cpu', 'cuda', 'tpu')
    assert program.disabled_safety_checks == ()
    text = program.mlir_module()
    assert set(re.findall(r'custom_call @([\w.]+)', text)) == {'shape_assertion'}
    arguments = read_with_orbax(folder / stage)['meta']['functions'][function]['stablehlo_arguments']
    main, = re.findall(r'func\.func public @main\((.*?)\) ->', text, re.DOTALL)
    assert len(re.findall(r'%arg\d+:', main)) == len(arguments)
    assert (folder / stage / f'{function}.mlirbc').read_bytes() == program.mlir_module_serialized


def content(folder):
    return {path.relative_to(folder): (path.stat().st_ino, path.read_bytes())
            for path in sorted(folder.rglob('*')) if path.is_file()}


def test_an_export_is_replaced_by_a_newer_one_when_that_is_whole(tmp_path, monkeypatch):
    folder = tmp_path / 'out' / 'expression'

    def run():
        return export.export(tmp_path, 'expression', folder, platforms=('cpu',))

    save(tmp_path, 'expression')
    run()
    first = content(folder)
    assert 'is up to date' in run()
    assert content(folder) == first
    folder.rename(folder.with_name('.expression.old'))  # killed between the two renames
    assert 'is up to date' in run()
    assert content(folder) == first
    save(tmp_path, 'expression', step=9, seed=1)

    def fail(meta):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as broken:
        broken.setattr(folders, 'readme', fail)
        with pytest.raises(UserError, match=f'cannot write {folder}: No space left on device'):
            run()
    assert content(folder) == first
    assert 'step 9' in run()
    assert folders.read_meta(folder)['step'] == 9
    assert [path.name for path in folder.parent.iterdir()] == ['expression']  # and nothing left over


def test_an_export_of_which_something_is_missing_is_made_anew(tmp_path):
    folder, damaged = tmp_path / 'out', tmp_path / 'damaged'
    save(tmp_path, 'unprojection')
    export.export(tmp_path, 'unprojection', folder, platforms=('cpu',))
    assert folders.read_meta(folder)['step'] == 7
    for name in ('predict.exported', 'predict.mlirbc', 'README.md', 'checkpoint/weights', 'checkpoint/meta/metadata'):
        shutil.copytree(folder, damaged)
        if name.endswith('metadata'):
            (damaged / name).write_bytes((folder / name).read_bytes()[:100])
        else:
            (damaged / name).rename(damaged / 'aside')
        assert folders.read_meta(damaged) == {}
        damaged.rename(tmp_path / name.replace('/', '.'))
    (tmp_path / 'checkpoint.meta.metadata').rename(damaged)
    assert 'step 7' in export.export(tmp_path, 'unprojection', damaged, platforms=('cpu',))
    assert folders.read_meta(damaged) == folders.read_meta(folder)
    assert content(damaged).keys() >= {path for path in content(folder) if 'checkpoint' not in path.parts}


def test_what_is_no_export_is_not_replaced(tmp_path):
    save(tmp_path, 'expression')
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(UserError, match=f'{tmp_path} holds something that is no export'):
        export.export(tmp_path, 'expression', tmp_path)
    assert (tmp_path / 'thesis.tex').read_text() == 'years of work'


def test_a_checkpoint_of_another_version_is_the_users_to_train_anew(tmp_path, monkeypatch):
    save(tmp_path, 'expression')
    config = tiny_config()
    del config.expression.losses
    inference = dataclasses.replace(checkpoint.load_for_inference(tmp_path, 'expression'), config=config)
    monkeypatch.setattr(checkpoint, 'load_for_inference', lambda workdir, stage: inference)
    with pytest.raises(UserError, match=f'expression in {tmp_path} was trained by another version.*losses'):
        export.export(tmp_path, 'expression', tmp_path / 'out')


def test_without_a_checkpoint_the_user_is_told_to_train(tmp_path):
    with pytest.raises(UserError, match='holds no checkpoint of stage expression'):
        export.export(tmp_path, 'expression', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
