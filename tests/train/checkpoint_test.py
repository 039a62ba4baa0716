"""What a checkpoint holds, where it can be read, when it may not be used, and what happens to a broken one."""

import functools
import json
import re
import shutil

import chex
import jax
import numpy as np
import pytest
import toy_stages

from talkinghead_jax.errors import UserError
from talkinghead_jax.train import checkpoint, loop, sharding
from talkinghead_jax.train.state import create


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A finished toy GAN: (workdir, state)."""
    workdir = tmp_path_factory.mktemp('run')
    return workdir, _train(workdir)


def _train(workdir, config=None, frozen=toy_stages.FROZEN):
    return loop.train(toy_stages.gan(), config or toy_stages.config(), frozen, toy_stages.batches, workdir,
                      progress=False, layout=sharding.make_layout(devices=jax.devices()[:1]))


def test_inference_gets_the_average_the_dataset_and_the_config(trained):
    workdir, state = trained
    found = checkpoint.load_for_inference(workdir, 'toy')
    chex.assert_trees_all_equal(found.params, {'gen': state.ema['gen'], 'disc': state.params['disc']})
    chex.assert_trees_all_equal(found.model_state, state.model_state)
    assert set(found.dataset) == {'pca_mean'}
    np.testing.assert_array_equal(found.dataset['pca_mean'], toy_stages.FROZEN['pca_mean'])
    assert isinstance(found.dataset['pca_mean'], np.ndarray)
    assert found.config.toy.model.width == 8
    assert found.step == 20


@pytest.mark.parametrize('exists', [False, True])
def test_without_a_checkpoint_the_user_is_told_to_train(tmp_path, exists):
    if exists:
        checkpoint.directory(tmp_path, 'toy').mkdir(parents=True)
    with pytest.raises(UserError, match=rf'{tmp_path}/checkpoints/toy holds no checkpoint.*--mode=train'):
        checkpoint.load_for_inference(tmp_path, 'toy')


@pytest.mark.parametrize(('key', 'value', 'message'), [
    ('toy.model.width', 12, 'toy.model.width was 8, is now 12'),
    ('toy.optim.learning_rate', 0.1, 'toy.optim.learning_rate was 0.05, is now 0.1'),
    ('image_size', 128, 'image_size was 64, is now 128'),
])
def test_a_changed_config_is_named(trained, key, value, message):
    config = toy_stages.config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        _train(trained[0], config)


def test_a_new_key_is_named(trained):
    with pytest.raises(UserError, match=r'toy.ema was None, is now 1'):
        _train(trained[0], toy_stages.config(ema=1))


def test_more_steps_other_logging_gradient_checkpointing_and_microbatches_are_no_change(trained):
    config = toy_stages.config(steps=10)
    config.log.every_steps = 7
    config.toy.model.remat = 'full'
    config.toy.accumulate = 2
    assert int(_train(trained[0], config).step) == 20


def test_another_dataset_is_named(trained):
    moved = {**toy_stages.FROZEN, 'pca_mean': toy_stages.FROZEN['pca_mean'] + 1}
    with pytest.raises(UserError, match='its pca_mean differs'):
        _train(trained[0], frozen=moved)
    without = {'network': toy_stages.FROZEN['network']}
    with pytest.raises(UserError, match=r'dataset.pca_mean was'):
        _train(trained[0], frozen=without)


def test_a_stage_without_dataset_arrays_is_saved_too(tmp_path):
    _train(tmp_path, frozen={'network': toy_stages.FROZEN['network']})
    assert checkpoint.load_for_inference(tmp_path, 'toy').dataset == {}


@pytest.mark.parametrize(('keep', 'always', 'left'), [(2, 0, {25, 30}), (1, 10, {10, 20, 30})])
def test_the_last_checkpoints_and_those_of_every_so_many_steps_are_kept(tmp_path, keep, always, left):
    config = toy_stages.config()
    config.log.update({'keep': keep, 'keep_every_steps': always})
    with _open(tmp_path, config) as checkpoints:
        for step in range(5, 31, 5):
            checkpoints.save(step, _state(step))
    assert _names(tmp_path) == {str(step) for step in left}


def _open(workdir, config=None):
    return checkpoint.Checkpoints(workdir, 'toy', config or toy_stages.config(), toy_stages.FROZEN)


def _abstract(layout):
    return layout.shard_state(jax.eval_shape(functools.partial(create, toy_stages.gan()), jax.random.key(0)))


def _state(step, layout=None):
    """Random numbers that `step` determines, in every array."""
    rng = np.random.default_rng(step)
    return jax.tree.map(lambda x: jax.device_put(rng.normal(size=x.shape, scale=100).astype(x.dtype), x.sharding),
                        _abstract(layout or _one()))


def _one():
    return sharding.make_layout(devices=jax.devices()[:1])


def _names(workdir):
    return {folder.name for folder in checkpoint.directory(workdir, 'toy').iterdir()}


def _equal(state, step):
    chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(_state(step)))


def test_what_any_layout_has_written_any_other_reads_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, 'SMALLEST_SHARDED', toy_stages.FEATURES)
    layouts = {'one': _one(), 'data': sharding.make_layout(), 'fsdp': sharding.make_layout(fsdp=2),
               'pmap': sharding.make_layout('pmap')}
    states = {name: _state(5, layout) for name, layout in layouts.items()}
    assert not states['fsdp'].params['gen']['kernel'].sharding.is_fully_replicated
    states['pmap'] = jax.pmap(lambda state, _: state, in_axes=(None, 0), out_axes=None)(states['pmap'], np.zeros(8))
    for writer, state in states.items():
        with _open(tmp_path / writer) as checkpoints:
            checkpoints.save(5, state)
        for reader, layout in layouts.items():
            with _open(tmp_path / writer) as checkpoints:
                restored = checkpoints.restore(_abstract(layout))
            _equal(restored, 5)
            jax.tree.map(lambda x, wanted: chex.assert_equal(x.sharding, wanted.sharding), restored,
                         _abstract(layouts[reader]))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """A workdir with steps 10 and 20."""
    workdir = tmp_path_factory.mktemp('saved')
    with _open(workdir) as checkpoints:
        for step in (10, 20):
            checkpoints.save(step, _state(step))
    return workdir


def _break(workdir, step, file, how):
    """Break the files of `step` that match, one at least."""
    found = list((checkpoint.directory(workdir, 'toy') / str(step)).glob(file))
    assert found
    for path in found:
        if how == 'gone':
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            content = path.read_bytes()
            path.write_bytes({'empty': b'', 'half': content[:len(content) // 2], 'other': b'{"stage": "toy"}'}[how])


@pytest.mark.parametrize(('file', 'how', 'told'), [
    ('meta', 'gone', 'meta'), ('meta/metadata', 'gone', 'meta'), ('meta/metadata', 'half', 'meta'),
    ('meta/metadata', 'other', 'meta lacks config, dataset, spec_version'), ('dataset', 'gone', 'dataset'),
    ('state', 'gone', 'state'), ('state/_METADATA', 'half', 'state'), ('state/manifest.ocdbt', 'empty', 'state'),
    ('state/d/*', 'gone', 'state'), ('state/d/*', 'half', 'state'),
])
def test_a_broken_checkpoint_is_put_aside_and_the_one_before_used(tmp_path, saved, caplog, capfd, file, how, told):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    _break(tmp_path, 20, file, how)
    assert checkpoint.load_for_inference(tmp_path, 'toy').step == 10
    assert _names(tmp_path) == {'10', '20'}
    with _open(tmp_path) as checkpoints:
        _equal(checkpoints.restore(_abstract(_one())), 10)
        assert _names(tmp_path) == {'10', 'corrupt-20'}
        checkpoints.save(20, _state(20))
    assert _names(tmp_path) == {'10', '20', 'corrupt-20'}
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith('talkinghead_jax')]
    assert len(warnings) == 2  # one of each reading
    for warning in warnings:
        assert f'passed over step 20 ({told}' in warning
        assert 'going on from step 10' in warning
        assert len(warning.splitlines()) == 1
    assert 'Traceback' not in capfd.readouterr().err


@pytest.mark.parametrize(('file', 'link', 'told'), [
    ('meta/metadata', '/proc/self/mem', 'Input/output error'),
    ('state/_METADATA', '/proc/self/mem', 'Input/output error'),
    ('state/manifest.ocdbt', 'manifest.ocdbt', 'Too many levels of symbolic links'),  # TensorStore's ValueError
])
def test_what_the_file_system_refuses_is_told_and_not_passed_over(tmp_path, saved, file, link, told):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    path = checkpoint.directory(tmp_path, 'toy') / '20' / file
    path.rename(path.with_name('aside'))
    path.symlink_to(link)
    item = re.escape(str(checkpoint.directory(tmp_path, 'toy') / '20' / file.split('/')[0]))
    with _open(tmp_path) as checkpoints:
        with pytest.raises(UserError, match=f'^cannot read {item}: {told}; it stays'):
            checkpoints.restore(_abstract(_one()))
        with pytest.raises(UserError, match=f'^cannot read {item}: {told}; it stays'):
            checkpoint.load_for_inference(tmp_path, 'toy')
        path.with_name('aside').rename(path)
        _equal(checkpoints.restore(_abstract(_one())), 20)
    assert _names(tmp_path) == {'10', '20'}


def test_what_a_running_training_deletes_meanwhile_is_not_broken(tmp_path, saved, monkeypatch, caplog):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    _break(tmp_path, 20, 'meta', 'gone')
    folder, read = checkpoint.directory(tmp_path, 'toy'), checkpoint._load

    def load(step):
        if step.name == '10' and not (folder / '30').exists():
            shutil.copytree(saved / 'checkpoints' / 'toy' / '20', folder / '30')
            shutil.rmtree(folder / '10')
        return read(step)
    monkeypatch.setattr(checkpoint, '_load', load)
    assert checkpoint.load_for_inference(tmp_path, 'toy').step == 30
    assert 'passed over step 20 (meta' in caplog.text
    assert 'step 10' not in caplog.text


def test_a_step_that_breaks_again_is_put_aside_under_another_name(tmp_path, saved):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    for _ in range(2):
        _break(tmp_path, 20, 'meta', 'gone')
        with _open(tmp_path) as checkpoints:
            assert checkpoints.restore(_abstract(_one())) is not None
            checkpoints.save(20, _state(20))
    assert _names(tmp_path) == {'10', '20', 'corrupt-20', 'corrupt-20-2'}


def test_where_all_are_broken_the_user_is_told_and_nothing_is_moved(tmp_path, saved):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    _break(tmp_path, 10, 'state', 'gone')
    _break(tmp_path, 20, 'meta', 'gone')
    told = r'holds no checkpoint that can be read: step 20 \(meta.*\), step 10 \(state.*\); want'
    with _open(tmp_path) as checkpoints, pytest.raises(UserError, match=told):
        checkpoints.restore(_abstract(_one()))
    with pytest.raises(UserError, match=told):
        checkpoint.load_for_inference(tmp_path, 'toy')
    assert _names(tmp_path) == {'10', '20'}


def test_a_checkpoint_of_another_config_is_refused_and_not_passed_over(tmp_path, saved):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    file = checkpoint.directory(tmp_path, 'toy') / '20' / 'meta' / 'metadata'
    meta = json.loads(file.read_text())
    meta['config']['seed'] = 4
    file.write_text(json.dumps(meta))
    with _open(tmp_path) as checkpoints, pytest.raises(UserError, match='seed was 4, is now 3'):
        checkpoints.restore(_abstract(_one()))
    assert _names(tmp_path) == {'10', '20'}
