"""Theta as a stage: shapes at demo and full size, one forward for both players, finite gradients, invariances."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common, demo
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.models import generator
from talkinghead_jax.nn import randomness
from talkinghead_jax.stages import generator as generator_stage
from talkinghead_jax.train.state import create
from talkinghead_jax.train.step import train_step
from third_party.vgg19.network import VGG19

GRID = 12  # the test mesh has GRID x GRID vertices
AXES = {'vertices': GRID ** 2, 'triangles': 2 * (GRID - 1) ** 2, 'components': 20}

pytestmark = pytest.mark.usefixtures('quick_compilation')


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


def example_keys():
    return randomness.example_keys(0, 0, np.arange(2))


def random_weights(stage):
    """(params, model_state) of normal numbers; `init` would take as long to compile as the losses."""
    rng = np.random.default_rng(0)
    abstract = jax.eval_shape(stage.init, jax.random.key(0))
    return jax.tree.map(
        lambda x: np.asarray(rng.normal(scale=math.prod(x.shape[:-1]) ** -0.5, size=x.shape), x.dtype), abstract)


def compiled_gradients(stage, model_state):
    """Jitted (params, batch) -> losses, each player's gradient, (state, scalars); stops at a number that is none."""
    frozen = make_frozen()

    @jax.jit
    def gradients(params, batch):
        out, vjp, aux = jax.vjp(
            lambda p: stage.losses(p, model_state, frozen, batch, example_keys()), params, has_aux=True)
        grads = {name: vjp({other: jnp.float32(other == name) for other in out})[0][name] for name in out}
        return out, grads, aux

    def checked(params, batch):
        with jax.debug_nans(True):
            return gradients(params, batch)

    return checked


@pytest.fixture(scope='module')
def tiny():
    """A small stage that always matches the best reference, its state, and its jitted gradients and prediction."""
    config = tiny_config()
    config.generator.worse_match_probability = 0.0
    stage = generator_stage.make(config, AXES)
    params, model_state = jax.jit(stage.init)(jax.random.key(0))
    frozen = make_frozen()
    predict = jax.jit(lambda params, batch: stage.predict(params, model_state, frozen, batch))
    return stage, params, model_state, compiled_gradients(stage, model_state), predict


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


def references_mapped(batch, change):
    return {name: change(name, value) if name.startswith('reference') else value for name, value in batch.items()}


def assert_same(found, wanted):
    """Equal up to rounding; of a gradient, measured by the largest entry of its array."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 + 2e-3 * np.abs(b).max())


def test_prediction_ignores_targets(tiny):
    stage, params, _, _, predict = tiny
    batch = make_batch(32)
    outputs = predict(params, batch)
    assert set(outputs) == {'image', 'render', 'render_alpha', 'matched', 'warped_render', 'warped_matched'}
    for name, value in predict(params, {**batch, 'target': jnp.zeros_like(batch['target'])}).items():
        np.testing.assert_array_equal(value, outputs[name], err_msg=name)
    metrics = stage.metrics(outputs, batch, {})
    assert {name: value.shape for name, value in metrics.items()} == {'ssim': (2,), 'psnr': (2,)}


def test_the_order_of_references_changes_nothing(tiny):
    _, params, _, gradients, predict = tiny
    order = np.array([2, 0, 1])
    batch = {**make_batch(32), 'reference_mask': jnp.array([[True, True, True], [True, False, True]])}
    shuffled = references_mapped(batch, lambda _, value: value[:, order])
    for name, value in predict(params, batch).items():
        np.testing.assert_allclose(predict(params, shuffled)[name], value, atol=2e-4, err_msg=name)
    assert_same(gradients(params, shuffled), gradients(params, batch))


def test_three_references_padded_to_eight_equal_three(tiny):
    """Also in training; what fills the padding is arbitrary."""
    _, params, _, gradients, predict = tiny
    rng, batch = np.random.default_rng(1), make_batch(32)

    def pad(name, value):
        shape = (2, 5, *value.shape[2:])
        junk = np.zeros(shape) if name == 'reference_mask' else rng.integers(0, 200, shape)
        return jnp.concatenate([value, jnp.asarray(junk, value.dtype)], 1)

    padded = references_mapped(batch, pad)
    for name, value in predict(params, batch).items():
        np.testing.assert_allclose(predict(params, padded)[name], value, atol=2e-4, err_msg=name)
    assert_same(gradients(params, padded), gradients(params, batch))


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


@pytest.mark.parametrize('ablation', generator.ABLATIONS[1:])
def test_ablations_train_and_only_no_3d_ignores_the_mesh(ablation):
    config = tiny_config(16)
    config.generator.model.ablation = ablation
    for loss in ('adversarial', 'feature_matching'):
        config.generator.losses[loss].weight = 0.0
    stage = generator_stage.make(config, AXES)
    params, model_state = random_weights(stage)
    gradients = compiled_gradients(stage, model_state)
    batch = make_batch(16)
    losses, grads, (_, scalars) = gradients(params, batch)
    assert finite((losses, grads, scalars))
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(grads['gen']['decoder']))
    assert ('flow_mesh' in scalars) == (ablation not in ('no_3d', 'no_warp'))
    elsewhere = gradients(params, {**batch, 'mesh_vertices': batch['mesh_vertices'] - 1000})
    if ablation == 'no_3d':
        assert_same(elsewhere[:2], (losses, grads))
    else:
        assert abs(float(elsewhere[0]['gen'] - losses['gen'])) > 1e-4


def test_bfloat16_trains_float32_parameters():
    """One step each: of bfloat16's three digits some hundred roundings in a row leave two, so terms agree to 5%."""
    config, scalars = tiny_config(16), {}
    config.generator.model.discriminator.update({'layers': 2, 'scales': 1})  # quicker to compile
    stage = generator_stage.make(config, AXES)
    initial = dict(zip(('params', 'model_state'), random_weights(stage), strict=True))
    start = jax.jit(functools.partial(create, stage))(jax.random.key(0), initial)
    for dtype in ('float32', 'bfloat16'):
        config.dtype = dtype
        step = jax.jit(functools.partial(train_step, generator_stage.make(config, AXES), 0))
        state, scalars[dtype] = step(start, make_frozen(), make_batch(16))
        kinds = {leaf.dtype for leaf in jax.tree.leaves(state)}
        assert kinds == {np.dtype('float32'), np.dtype('int32')}  # counters
        assert finite((state, scalars[dtype]))
    for name, value in scalars['float32'].items():
        if not name.startswith('gradient_norm'):
            np.testing.assert_allclose(scalars['bfloat16'][name], value, rtol=0.05, atol=0.02, err_msg=name)
    assert any(scalars['bfloat16'][name] != value for name, value in scalars['float32'].items())


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


LOSSES = ('adversarial', 'feature_matching', 'perceptual', 'flow', 'reconstruction')


def traced(*unweighted):
    """(what the losses read, names of their scalars, flops), with a weight for every loss but `unweighted`."""
    config = tiny_config()
    for name in LOSSES:
        config.generator.losses[name].weight = 0.0 if name in unweighted else 1.0
    stage = generator_stage.make(config, AXES)
    frozen = make_frozen()
    if 'vgg19' in stage.frozen_fields:
        picture = jnp.zeros((1, 32, 32, 3))
        frozen['vgg19'] = jax.eval_shape(VGG19((2, 2, 2, 2, 2)).init, jax.random.key(0), picture)['params']
    arguments = (*jax.eval_shape(stage.init, jax.random.key(0)), frozen, dict(stage.batch_spec),
                 jax.eval_shape(example_keys))
    trace = jax.jit(stage.losses).trace(*arguments)
    jaxpr = trace.jaxpr.jaxpr
    read = {id(variable) for equation in jaxpr.eqns for variable in equation.invars}
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(arguments)]
    names = {path for path, variable in zip(paths, jaxpr.invars, strict=True) if id(variable) in read}
    _, (_, scalars) = trace.out_info
    return names, set(scalars), trace.lower().cost_analysis()['flops']


@pytest.fixture(scope='module')
def weighted():
    return traced()


def test_every_weighted_loss_is_logged(weighted):
    assert weighted[1] >= {*LOSSES, 'disc_hinge', 'flow_mesh', 'flow_landmark', 'flow_warp', 'render_flow_landmark',
                           'render_flow_warp'}


@pytest.mark.parametrize('unweighted', [('adversarial', 'feature_matching'), ('perceptual',), ('flow',),
                                        ('reconstruction',)], ids='-'.join)
def test_a_weight_of_zero_skips_the_cost(weighted, unweighted):
    """The terms are gone, their arithmetic, and with them every use of the network that they need."""
    names, scalars, flops = traced(*unweighted)
    assert not scalars & set(unweighted)
    assert flops < weighted[2]
    for part, loss in (("[0]['disc']", 'adversarial'), ("['vgg19']", 'perceptual')):
        assert any(part in name for name in weighted[0])
        assert any(part in name for name in names) == (loss not in unweighted)


def test_bad_configs_are_named():
    config = tiny_config()
    config.generator.model.ablation = 'no_such'
    with pytest.raises(UserError, match='no_such'):
        generator_stage.make(config, AXES)
    with pytest.raises(UserError, match='image_size is 30'):
        generator_stage.make(tiny_config(30), AXES)
