"""The perceptual term from the user's file of VGG19 to the log of a training, and Theta without it."""

import itertools

import generator_stage_test as generators
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax.errors import UserError
from talkinghead_jax.nn import randomness
from talkinghead_jax.stages import generator, published
from talkinghead_jax.train import checkpoint, history, loop, sharding
from third_party import assets
from third_party.vgg19.network import VGG19

WIDTHS = (2, 2, 3, 3, 4)


@pytest.fixture(autouse=True)
def _empty_assets(tmp_path, monkeypatch):
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(tmp_path / 'assets'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def make(weight):
    """(config, stage) of a tiny Theta with no other loss than the perceptual one."""
    config = generators.tiny_config(16)
    for loss in config.generator.losses.values():
        loss.weight = 0.0
    config.generator.losses.perceptual.weight = weight
    config.generator.steps = 2
    config.log.every_steps = 1
    return config, generator.make(config, generators.AXES)


def save_narrow_vgg19():
    shapes = jax.eval_shape(VGG19(WIDTHS).init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))['params']
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(0, 0.4, x.shape).astype(np.float32), shapes)
    assets.save('vgg19', params, 'narrow')
    return params


def abstract_losses(stage, frozen):
    """Names of the logged terms, by tracing the losses."""
    params, state = jax.eval_shape(stage.init, jax.random.key(0))
    keys = jax.eval_shape(lambda: randomness.example_keys(0, 0, np.arange(2)))
    _, (_, scalars) = jax.eval_shape(stage.losses, params, state, frozen, dict(stage.batch_spec), keys)
    return set(scalars)


@pytest.mark.usefixtures('quickly_compiled')
def test_training_minimizes_and_logs_it_and_the_checkpoint_does_without(tmp_path):
    params = save_narrow_vgg19()
    config, stage = make(10.0)
    frozen = {**generators.make_frozen(), **published.load(stage)}
    jax.tree.map(np.testing.assert_array_equal, frozen['vgg19'], params)
    batch = jax.device_get(generators.make_batch(16))
    state = loop.train(stage, config, frozen, lambda first: itertools.repeat(batch), tmp_path, progress=False,
                       layout=sharding.make_layout(devices=jax.devices()[:1]))
    logged = [row for row in history.read(tmp_path, 'generator') if 'loss/gen' in row]
    assert [row['step'] for row in logged] == [1, 2]
    for row in logged:
        assert 0 < row['perceptual'] < np.inf
        np.testing.assert_allclose(row['loss/gen'], 10 * row['perceptual'], rtol=1e-5)
    moments = jax.tree.leaves(state.opt_state['gen'])
    assert sum(bool(np.asarray(leaf).any()) for leaf in moments) > len(moments) / 2  # gradients reached the weights

    inference = checkpoint.load_for_inference(tmp_path, 'generator')
    assert set(inference.dataset) == {'triangles', 'pose_deviation'}
    for use in (lambda b, f: stage.predict(inference.params, inference.model_state, f, b), stage.baselines):
        jax.eval_shape(use, batch, inference.dataset)  # evaluation and generation need no VGG19


def test_weight_0_neither_wants_nor_computes_it():
    _, stage = make(0.0)
    assert stage.frozen_fields == ('triangles', 'pose_deviation')
    assert published.load(stage) == {}
    assert 'perceptual' not in abstract_losses(stage, generators.make_frozen())
    _, stage = make(10.0)
    assert 'vgg19' in stage.frozen_fields
    vgg19 = jax.eval_shape(VGG19(WIDTHS).init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))['params']
    assert 'perceptual' in abstract_losses(stage, {**generators.make_frozen(), 'vgg19': vgg19})


def test_missing_and_damaged_weights_end_in_a_sentence_that_helps(tmp_path):
    _, stage = make(10.0)
    with pytest.raises(UserError) as missing:
        published.load(stage)
    for part in (f'{tmp_path}/assets/vgg19.npz', 'get vgg19-dcbb9e9d.pth from torchvision', 'https://',
                 'launch.py --mode=convert --network=vgg19 --input=vgg19-dcbb9e9d.pth',
                 '--config.generator.losses.perceptual.weight=0 trains without it'):
        assert part in str(missing.value)
    assert '\n' not in str(missing.value)
    (tmp_path / 'assets').mkdir()
    (tmp_path / 'assets/vgg19.npz').write_text('no arrays')
    with pytest.raises(UserError, match=r'vgg19\.npz is damaged .*--mode=convert'):
        published.load(stage)
