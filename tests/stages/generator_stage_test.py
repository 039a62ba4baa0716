"""Theta as a stage: shapes at demo and full size, one forward for both players, finite gradients, invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common, demo
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.models import conditioning, generator
from talkinghead_jax.nn import randomness
from talkinghead_jax.stages import generator as generator_stage

GRID = 12  # the test mesh has GRID x GRID vertices
AXES = {'vertices': GRID ** 2, 'triangles': 2 * (GRID - 1) ** 2, 'components': 20}


def tiny_config(size=32):
    config = demo.get_config('generator')
    config.image_size = size
    config.generator.batch_size = 2
    config.generator.data.references = 3
    config.generator.model.update({'width': 4, 'max_width': 8, 'levels': 3, 'flow_downs': 1, 'flow_blocks': 1})
    config.generator.model.discriminator.update({'width': 4, 'max_width': 8})
    return config


def make_batch(size, references=3, batch=2, seed=0):
    """Random smooth pictures of the template in random poses, on a domed mesh."""
    rng = np.random.default_rng(seed)
    pose = (rng.normal(size=(batch, references + 2, 6)) * [0.1, 0.15, 0.05, 3, 3, 3]).astype(np.float32)
    template = np.broadcast_to(face.TEMPLATE.astype(np.float32), (*pose.shape[:2], 68, 3))
    landmarks = rigid.apply_pose(template, pose)
    u, v = np.meshgrid(*[np.linspace(-1.2, 1.2, GRID)] * 2)
    dome = np.stack([60 * np.sin(u), 70 * np.sin(v), 60 * np.cos(u) * np.cos(v) - 40], -1).reshape(-1, 3)
    mesh = rigid.apply_pose(np.broadcast_to(dome + face.CENTROID, (batch, GRID ** 2, 3)), pose[:, 0])
    coarse = rng.integers(0, 255, (batch, references + 2, 8, 8, 3))
    images = np.kron(coarse, np.ones((1, 1, size // 8, size // 8, 1), int)).astype(np.uint8)
    fields = {
        'references': images[:, 2:], 'reference_landmarks': landmarks[:, 2:], 'reference_pose': pose[:, 2:],
        'reference_mask': np.ones((batch, references), bool), 'key_image': images[:, 0],
        'key_landmarks': landmarks[:, 0], 'key_pose': pose[:, 0], 'mesh_vertices': mesh,
        'mesh_visibility': np.ones((batch, GRID ** 2)), 'target': images[:, 1], 'target_landmarks': landmarks[:, 1],
        'target_pose': pose[:, 1], 'mask': np.ones(batch, bool),
    }
    spec = specs.generator_batch(batch, references, size, GRID ** 2)
    return {name: jnp.asarray(fields[name], spec[name].dtype) for name in spec}


def make_frozen():
    index = np.arange(GRID ** 2).reshape(GRID, GRID)
    a, b, c, d = (x.ravel() for x in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    triangles = np.concatenate([np.stack([a, b, c], -1), np.stack([b, d, c], -1)])
    return {'triangles': jnp.asarray(triangles, jnp.int32), 'pose_deviation': jnp.ones(6)}


@pytest.fixture(scope='module')
def tiny():
    """A small stage, its state, and its jitted gradients and prediction."""
    stage = generator_stage.make(tiny_config(), AXES)
    params, model_state = jax.jit(stage.init)(jax.random.key(0))
    frozen = make_frozen()

    @jax.jit
    def gradients(params, batch):
        keys = randomness.example_keys(0, 0, jnp.arange(2))
        out, vjp, aux = jax.vjp(lambda p: stage.losses(p, model_state, frozen, batch, keys), params, has_aux=True)
        grads = {name: vjp({other: jnp.float32(other == name) for other in out})[0][name] for name in out}
        return out, grads, aux

    predict = jax.jit(lambda params, batch: stage.predict(params, model_state, frozen, batch))
    return stage, params, model_state, gradients, predict


def finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize('change', [
    {},
    {'reference_mask': jnp.array([[True, False, False]] * 2)},
    {'mesh_vertices': jnp.full((2, GRID ** 2, 3), -1000.0, jnp.float32)},  # an empty render
    {'mesh_visibility': jnp.zeros((2, GRID ** 2))},
    {'mask': jnp.array([True, False])},
], ids=['plain', 'one_reference', 'empty_render', 'hidden', 'padding'])
def test_losses_and_gradients_are_finite(tiny, change):
    _, params, model_state, gradients, _ = tiny
    losses, grads, (new_state, scalars) = gradients(params, {**make_batch(32), **change})
    assert set(losses) == {'gen', 'disc'}
    assert finite((losses, grads, scalars))
    assert jax.tree.structure(new_state) == jax.tree.structure(model_state)
    # The flow heads start at zero, so a step passes before their trunks move; everything else moves at once.
    still = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
             if not change and not np.asarray(leaf).any()]
    assert all('_flow' in name for name in still), still


def test_padding_examples_change_nothing(tiny):
    _, params, _, gradients, _ = tiny
    batch = {**make_batch(32), 'mask': jnp.array([True, False])}
    other = {**batch, 'target': batch['target'].at[1].set(0)}
    for a, b in zip(jax.tree.leaves(gradients(params, batch)[1]), jax.tree.leaves(gradients(params, other)[1]),
                    strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_prediction_ignores_targets_and_the_order_of_references(tiny):
    stage, params, _, _, predict = tiny
    batch = make_batch(32)
    outputs = predict(params, batch)
    assert set(outputs) == {'image', 'render', 'render_alpha', 'matched', 'warped_render', 'warped_matched'}
    order = np.array([2, 0, 1])
    shuffled = {name: value[:, order] if name.startswith('reference') else value for name, value in batch.items()}
    shuffled['target'] = jnp.zeros_like(batch['target'])
    for name, value in predict(params, shuffled).items():
        np.testing.assert_allclose(value, outputs[name], atol=2e-4, err_msg=name)
    metrics = stage.metrics(outputs, batch, {})
    assert {name: value.shape for name, value in metrics.items()} == {'ssim': (2,), 'psnr': (2,)}


def test_baselines_copy_and_paste(tiny):
    stage, _, _, _, _ = tiny
    batch, frozen = make_batch(32), make_frozen()
    baselines = jax.jit(stage.baselines)(batch, frozen)
    distance = np.square(np.asarray(batch['reference_pose'] - batch['target_pose'][:, None])).sum(-1)
    best = np.asarray(batch['references'])[np.arange(2), distance.argmin(1)] / 127.5 - 1
    np.testing.assert_allclose(baselines['matched_reference']['image'], best, atol=1e-6)
    pasted = baselines['render_on_reference']['image']
    assert float(jnp.abs(pasted).max()) <= 1 + 1e-5
    np.testing.assert_allclose(pasted[:, 0, 0], best[:, 0, 0], atol=1e-5)  # a corner: background


def test_blanking_hides_the_mouth_of_both_sources():
    batch, frozen = make_batch(32), make_frozen()
    given, bare = jax.jit(lambda batch: tuple(
        conditioning.condition(batch, frozen, blank=blank, literal=True) for blank in (True, False)))(batch)
    boxes = np.asarray(given.target_boxes)
    assert 0.02 < boxes.mean() < 0.3
    for name in ('matched', 'render'):
        hidden = np.asarray(given.sources[name].image != bare.sources[name].image).any(-1)
        assert hidden.any()
        assert (np.asarray(given.sources[name].image)[hidden] == -1).all()


def full_config():
    config = common.base('full')
    config.generator.losses.perceptual.weight = 0.0
    return config


@pytest.mark.parametrize('config', [demo.get_config(), full_config()], ids=['demo', 'full'])
def test_shapes_at_demo_and_full_size(config):
    stage = generator_stage.make(config, AXES)
    params, state = jax.eval_shape(stage.init, jax.random.key(0))
    batch = dict(stage.batch_spec)
    frozen = {name: specs.METADATA[name].array(F=AXES['triangles']) for name in stage.frozen_fields}
    keys = jax.eval_shape(lambda: randomness.example_keys(0, 0, np.arange(config.generator.batch_size)))
    losses, _ = jax.eval_shape(stage.losses, params, state, frozen, batch, keys)
    assert {name: loss.shape for name, loss in losses.items()} == {'gen': (), 'disc': ()}
    outputs = jax.eval_shape(stage.predict, params, state, frozen, batch)
    size = config.image_size
    assert outputs['image'].shape == (config.generator.batch_size, size, size, 3)
    if size == 256:
        count = sum(leaf.size for leaf in jax.tree.leaves(params['gen']))
        assert 30e6 < count < 200e6, count


def test_without_adversarial_weights_the_discriminator_is_never_run():
    config = tiny_config()
    config.generator.losses.adversarial.weight = 0.0
    config.generator.losses.feature_matching.weight = 0.0
    stage = generator_stage.make(config, AXES)
    params, state = jax.eval_shape(stage.init, jax.random.key(0))
    keys = jax.eval_shape(lambda: randomness.example_keys(0, 0, np.arange(2)))
    _, (new_state, scalars) = jax.eval_shape(
        stage.losses, params, state, make_frozen(), dict(stage.batch_spec), keys)
    assert 'disc_hinge' not in scalars
    assert new_state == state


def test_bad_configs_are_named():
    config = tiny_config()
    config.generator.model.ablation = 'no_such'
    with pytest.raises(UserError, match='no_such'):
        generator_stage.make(config, AXES)
    with pytest.raises(UserError, match='image_size is 30'):
        generator_stage.make(tiny_config(30), AXES)
    config = tiny_config()
    config.generator.losses.perceptual.weight = 10.0
    stage = generator_stage.make(config, AXES)
    assert 'vgg19' in stage.frozen_fields
    with pytest.raises(UserError, match='vgg19'):
        jax.eval_shape(lambda key: stage.losses(*stage.init(key), make_frozen(), make_batch(32),
                                                randomness.example_keys(0, 0, jnp.arange(2))), jax.random.key(0))


def test_ablations_are_known():
    assert generator.ABLATIONS == ('', 'no_3d', 'no_hybrid', 'no_warp', 'matting')
