"""The three supervised stages: expression, head_motion, unprojection."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common, demo
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face
from talkinghead_jax.models import audio
from talkinghead_jax.stages.registry import make_stage

AXES = {'vertices': 50, 'triangles': 60, 'components': 20}
NAMES = ('expression', 'head_motion', 'unprojection')

pytestmark = pytest.mark.usefixtures('quick_compilation')


def _config(tiny: bool = True):
    config = demo.get_config()
    if tiny:
        config.image_size = 16
        config.expression.update({'batch_size': 2})
        config.expression.data.frames = 8
        config.expression.model.width = 8
        config.head_motion.update({'batch_size': 2})
        config.head_motion.data.update({'context': 24, 'least_context': 12, 'frames': 16, 'least_frames': 8})
        config.head_motion.model.update({'width': 8, 'hidden': 4, 'rank': 4})
        config.unprojection.update({'batch_size': 2})
        config.unprojection.model.width = 4
    return config


def _frozen(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(10)
    basis = np.linalg.qr(rng.normal(size=(204, 20)))[0].T.reshape(20, 68, 3)
    rows, columns = np.mgrid[:size, :size] * (200 / size) + 30
    frozen = {
        'pca_mean': face.TEMPLATE, 'pca_basis': basis, 'pca_deviation': np.linspace(8, 1, 20),
        'speech_regression': 0.01 * rng.normal(size=(specs.WINDOW_FEATURES, 20)),
        'pose_mean': np.full(6, 0.1), 'pose_deviation': np.array([0.1, 0.1, 0.1, 5, 5, 5]),
        'uv_mask': np.ones((size, size)), 'uv_weight': np.where(columns > 100, 1.2, 0.6),
        'uv_mean': np.stack([columns, rows, np.zeros_like(rows)], axis=-1),
    }
    return {name: jnp.float32(value) for name, value in frozen.items()}


def _batch(stage) -> dict[str, np.ndarray]:
    """A random batch of plausible values."""
    rng = np.random.default_rng(11)
    batch = {}
    for name, field in stage.batch_spec.items():
        if field.dtype == np.bool_:
            batch[name] = np.ones(field.shape, bool)
        elif field.dtype == np.uint8:
            batch[name] = rng.integers(0, 256, field.shape).astype(np.uint8)
        elif field.dtype == np.int16:
            batch[name] = rng.integers(-5000, 5000, field.shape).astype(np.int16)
        elif 'frontal' in name:
            batch[name] = np.float32(face.TEMPLATE + rng.normal(size=field.shape))
        elif name == 'position_map':
            mean = np.asarray(_frozen(field.shape[1])['uv_mean'])
            batch[name] = np.float32(mean + 20 * rng.normal(size=(field.shape[0], 1, 1, 3)))
        else:
            batch[name] = np.float32(rng.normal(size=field.shape) * 0.1)
    return batch


@pytest.fixture(scope='module', params=NAMES)
def trained(request):
    """A tiny stage, its start, a batch, and what 20 steps on this batch made of it."""
    config = _config()
    stage = make_stage(request.param, config, AXES)
    frozen, batch = _frozen(config.image_size), _batch(stage)
    params, state = jax.jit(stage.init)(jax.random.key(0))
    tx = optax.adam(3e-3)

    @jax.jit
    def step(params, state, opt_state):
        def loss(own):
            values, aux = stage.losses({'net': own}, state, frozen, batch, None)
            return values['net'], aux
        (value, (state, _)), gradient = jax.value_and_grad(loss, has_aux=True)(params['net'])
        updates, opt_state = tx.update(gradient, opt_state)
        return {'net': optax.apply_updates(params['net'], updates)}, state, opt_state, value, gradient
    history, own, own_state, opt_state, first = [], params, state, tx.init(params['net']), None
    for _ in range(20):
        own, own_state, opt_state, value, gradient = step(own, own_state, opt_state)
        first = gradient if first is None else first
        history.append(float(value))
    return stage, frozen, batch, (params, state), history, first


def test_loss_falls_and_gradients_are_finite_everywhere(trained):
    *_, history, gradient = trained
    assert history[-1] < 0.8 * history[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path


def test_padding_examples_and_frames_do_not_count(trained):
    stage, frozen, batch, (params, state), *_ = trained
    batch = {name: value.copy() for name, value in batch.items()}
    batch['mask'][-1] = False
    if 'frame_mask' in batch:
        batch['frame_mask'][0, -3:] = False
    loss = jax.jit(lambda b: stage.losses(params, state, frozen, b, None)[0]['net'])
    expected = loss(batch)
    for name in ('target_frontal', 'pose'):
        if name in batch:
            batch[name][-1] += 7
            batch[name][0, -3:] += 7
    if 'position_map' in batch:
        batch['position_map'][-1] += 7
    np.testing.assert_allclose(loss(batch), expected, rtol=1e-5)


def test_metrics_and_baselines_have_one_value_an_example(trained):
    stage, frozen, batch, (params, state), *_ = trained
    outputs = jax.jit(stage.predict)(params, state, frozen, batch)
    baselines = stage.baselines(batch, frozen)
    assert set(baselines) == {
        'expression': {'mean_face', 'log_mel_regression'},
        'head_motion': {'hold_last', 'reference_mean', 'loop_reference'}, 'unprojection': {'mean_shape'}}[stage.name]
    for name, candidate in {'own': outputs, **baselines}.items():
        assert jax.tree.map(jnp.shape, candidate) == jax.tree.map(jnp.shape, outputs), name
        values = jax.jit(stage.metrics)(candidate, batch, frozen)
        for metric, value in values.items():
            assert value.shape == (2,), metric
            assert np.isfinite(value).all(), (name, metric)


def test_perfect_outputs_score_perfectly(trained):
    stage, frozen, batch, *_ = trained
    perfect = {'expression': {'frontal': batch.get('target_frontal')}, 'head_motion': {'pose': batch.get('pose')},
               'unprojection': {'position_map': batch.get('position_map')}}[stage.name]
    values = jax.jit(stage.metrics)(perfect, batch, frozen)
    ones = {'opening_correlation', 'amplitude_ratio', 'velocity_ratio', 'correlation'}
    for name, value in values.items():
        if name not in ('seam_jump', 'beat_gain'):
            np.testing.assert_allclose(value, float(name in ones), atol=0.1 if name == 'rotation_deg' else 1e-4)


def test_prediction_reads_no_targets(trained):
    stage, frozen, batch, (params, state), *_ = trained
    inputs = {name: value for name, value in batch.items()
              if name not in ('target_frontal', 'pose', 'position_map', 'frame_mask', 'mask')}
    assert jax.eval_shape(stage.predict, params, state, frozen, inputs)


def test_noisy_sound_is_scored_beside_the_clean():
    config = _config()
    stage, frozen = make_stage('expression', config, AXES), _frozen(16)
    params, state = jax.jit(stage.init)(jax.random.key(0))
    batch = _batch(stage)
    clean = stage.predict(params, state, frozen, batch)
    batch['noisy_audio'] = batch['audio'][::-1]  # the other example's speech
    swapped = stage.predict(params, state, frozen, {**batch, 'audio': batch['noisy_audio']})
    methods = {'own': stage.predict(params, state, frozen, batch), **stage.baselines(batch, frozen)}
    np.testing.assert_allclose(methods['own']['frontal'], clean['frontal'], atol=1e-5)
    np.testing.assert_allclose(methods['own']['noisy_frontal'], swapped['frontal'], atol=1e-5)
    np.testing.assert_array_equal(methods['mean_face']['noisy_frontal'], methods['mean_face']['frontal'])
    for name, outputs in methods.items():
        values = stage.metrics(outputs, batch, frozen)
        again = stage.metrics({'frontal': outputs['noisy_frontal']}, batch, frozen)
        np.testing.assert_allclose(values['lmd_noisy'], again['lmd'], rtol=1e-5)
        assert (name == 'mean_face') == bool(np.allclose(values['lmd'], values['lmd_noisy']))


def test_the_linear_baseline_is_a_matrix_product_with_the_windows_log_mel():
    stage, frozen = make_stage('expression', _config(), AXES), _frozen(16)
    batch = _batch(stage)
    found = stage.baselines(batch, frozen)['log_mel_regression']
    for t in (0, 7):
        window = np.asarray(audio.window_log_mel(batch['audio'][:, t:t + 7])).reshape(2, -1)
        features = np.concatenate([window, np.ones((2, 1))], axis=1)
        expected = features @ np.asarray(frozen['speech_regression'], np.float64)
        np.testing.assert_allclose(found['coefficients'][:, t], expected, atol=1e-4)
    expected = face.reconstruct(frozen, found['coefficients']) + batch['identity'][:, None]
    np.testing.assert_allclose(found['frontal'], expected, atol=1e-4)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('full', [False, True])
def test_demo_and_full_size_trace(name, full):
    config = common.base('full') if full else _config(tiny=False)
    config.dtype = 'bfloat16' if full else 'float32'
    stage = make_stage(name, config, AXES)
    size = config.image_size
    frozen = jax.eval_shape(lambda: {key: _frozen(size)[key] for key in stage.frozen_fields})
    params, state = jax.eval_shape(stage.init, jax.random.key(0))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((params, state)))
    losses, (new_state, _) = jax.eval_shape(stage.losses, params, state, frozen, dict(stage.batch_spec), None)
    assert losses['net'].shape == ()
    assert losses['net'].dtype == jnp.float32
    same = jax.tree.map(lambda new, old: (new.shape, new.dtype) == (old.shape, old.dtype), new_state, state)
    assert all(jax.tree.leaves(same))
    outputs = jax.eval_shape(stage.predict, params, state, frozen, dict(stage.batch_spec))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(outputs))


def test_what_does_not_fit_is_the_users_mistake():
    with pytest.raises(UserError, match="unknown stage 'theta'; want one of unprojection, expression"):
        make_stage('theta', _config(), AXES)
    with pytest.raises(UserError, match='components is 20; the dataset was prepared with 12'):
        make_stage('expression', _config(), {**AXES, 'components': 12})
