"""What a checkpoint holds, and when it may not be used."""

import chex
import jax
import numpy as np
import pytest
import toy_stages

from talkinghead_jax.errors import UserError
from talkinghead_jax.train import checkpoint, loop, sharding


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


def test_only_the_last_checkpoints_are_kept(tmp_path):
    config = toy_stages.config(steps=30)
    config.log.update({'checkpoint_every_steps': 5, 'keep': 2})
    _train(tmp_path, config)
    steps = {int(folder.name) for folder in checkpoint.directory(tmp_path, 'toy').iterdir()}
    assert steps == {25, 30}


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


def test_more_steps_other_logging_and_gradient_checkpointing_are_no_change(trained):
    config = toy_stages.config(steps=10)
    config.log.every_steps = 7
    config.toy.model.remat = 'full'
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
