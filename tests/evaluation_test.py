import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax import evaluation, specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.evaluation import DETECTED_LMD, DETECTION_FAILURE
from talkinghead_jax.geometry import face
from talkinghead_jax.stages.base import Stage

SIZE = 8


def pose_stage():
    """Predicts context's last pose times a parameter; the metric is the first axis' mean error."""
    def predict(params, model_state, frozen, batch):
        return {'pose': params['net']['gain'] * batch['context_pose'][:, -1:]}

    def metrics(outputs, batch, frozen):
        error = jnp.abs(outputs['pose'] - batch['pose'])[..., 0].mean(-1)
        return {'error': error, 'scaled': error * frozen['unit'][None]}

    def baselines(batch, frozen):
        return {'zero': {'pose': jnp.zeros_like(batch['context_pose'][:, -1:])}}

    return Stage('head_motion', (), specs.head_motion_batch(2, 4, 3), None, None, predict, metrics, baselines)


def inference(gain=1.0):
    return types.SimpleNamespace(params={'net': {'gain': jnp.float32(gain)}}, model_state={'net': {}})


def batches(count, size, seed=0):
    """`count` examples in batches of `size`, the last one padded with nonsense."""
    rng = np.random.default_rng(seed)
    context = rng.normal(0, 1, (count, 4, 6)).astype(np.float32)
    pose = rng.normal(0, 1, (count, 3, 6)).astype(np.float32)
    for start in range(0, count, size):
        real = min(size, count - start)
        padding = ((0, size - real), (0, 0), (0, 0))
        yield {'context_pose': np.pad(context[start:start + size], padding, constant_values=1e6),
               'pose': np.pad(pose[start:start + size], padding, constant_values=np.nan),
               'mask': np.arange(size) < real}


FROZEN = {'unit': np.float32(10)}


def test_means_agree_with_numpy_and_padding_does_not_count():
    result = evaluation.evaluate(pose_stage(), inference(2.0), FROZEN, batches(7, 3))
    full = next(batches(7, 7))
    error = np.abs(2 * full['context_pose'][:, -1:] - full['pose'])[..., 0].mean(-1)
    zero = np.abs(full['pose'])[..., 0].mean(-1)
    assert result.n == 7
    assert result.baselines == ('zero',)
    np.testing.assert_allclose(result.per_example['model']['error'], error, rtol=1e-6)
    np.testing.assert_allclose(result.means['model']['error'], error.mean(), rtol=1e-6)
    np.testing.assert_allclose(result.means['zero']['scaled'], 10 * zero.mean(), rtol=1e-6)


@pytest.mark.parametrize('size', [1, 2, 7, 10])
def test_batch_size_does_not_matter(size):
    reference = evaluation.evaluate(pose_stage(), inference(), FROZEN, batches(7, 3))
    result = evaluation.evaluate(pose_stage(), inference(), FROZEN, batches(7, size))
    assert result.n == 7
    for method, means in reference.means.items():
        for name, value in means.items():
            np.testing.assert_allclose(result.means[method][name], value, rtol=1e-6)


def test_sums_are_in_float64():
    """A float32 sum of 2^24 and ones would stop growing."""
    collector = evaluation._Collector()
    for values in (np.full(1, 2.0 ** 24, np.float32), np.ones(9, np.float32)):
        collector.add({'model': {'x': values}}, np.ones(len(values), bool))
    assert collector.means()['model']['x'] == (2 ** 24 + 9) / 10


def test_the_program_is_compiled_once():
    traces = []
    stage = pose_stage()

    def predict(*args):
        traces.append(1)
        return stage.predict(*args)

    counted = Stage('head_motion', (), {}, None, None, predict, stage.metrics, stage.baselines)
    evaluation.evaluate(counted, inference(), FROZEN, batches(9, 2))
    assert len(traces) == 1


def test_examples_are_the_first_batch_without_padding():
    result = evaluation.evaluate(pose_stage(), inference(), {**FROZEN, 'uv_mask': np.eye(2)}, batches(2, 5))
    assert result.examples['batch']['pose'].shape == (2, 3, 6)
    assert set(result.examples['outputs']) == {'model', 'zero'}
    assert all(isinstance(leaf, np.ndarray) and np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.examples))
    np.testing.assert_array_equal(result.examples['frozen']['uv_mask'], np.eye(2))


def test_no_example_is_the_users_mistake():
    with pytest.raises(UserError, match='head_motion'):
        evaluation.evaluate(pose_stage(), inference(), FROZEN, [])


def test_a_metric_that_is_not_a_number_shows():
    broken = inference(np.nan)
    assert np.isnan(evaluation.evaluate(pose_stage(), broken, FROZEN, batches(4, 2)).means['model']['error'])


def test_progress_wraps_the_batches():
    seen = []

    def progress(items):
        for item in items:
            seen.append(1)
            yield item

    evaluation.evaluate(pose_stage(), inference(), FROZEN, batches(6, 2), progress=progress)
    assert len(seen) == 3


def image_stage():
    def predict(params, model_state, frozen, batch):
        return {'image': batch['source']}

    def metrics(outputs, batch, frozen):
        return {'brightness': outputs['image'].mean((1, 2, 3))}

    def baselines(batch, frozen):
        return {'black': {'image': jnp.full_like(batch['source'], -1.0)}}

    return Stage('generator', (), {}, None, None, predict, metrics, baselines)


def image_batches():
    """Four frames; the result is brighter than the truth by 0, 2, 4, 6 grey levels; one example pads."""
    truth = np.full((5, SIZE, SIZE, 3), 100, np.uint8)
    source = (100 + 2 * np.arange(5)[:, None, None, None]) / 127.5 - 1 + np.zeros(truth.shape)
    yield {'source': source.astype(np.float32), 'target': truth, 'mask': np.arange(5) < 4}


def detector(frames):
    """A mouth as wide as the frame is bright; no face in frames that are black, or 104 bright."""
    brightness = frames.mean((1, 2, 3))
    assert frames.shape[1:] == (256, 256, 3)
    assert frames.dtype == np.uint8
    landmarks = np.tile(face.TEMPLATE, (len(frames), 1, 1))
    landmarks[:, 48:68:2, 0] += brightness[:, None] / 2
    landmarks[:, 49:68:2, 0] -= brightness[:, None] / 2
    return landmarks, (brightness > 0) & (np.round(brightness) != 104)


def test_detected_lmd_skips_frames_without_a_face_and_reports_them():
    result = evaluation.evaluate(image_stage(), inference(), {}, image_batches(), detector=detector)
    np.testing.assert_allclose(result.per_example['model'][DETECTED_LMD], [0, 1, np.nan, 3], atol=1e-4)
    np.testing.assert_allclose(result.means['model'][DETECTED_LMD], 4 / 3, rtol=1e-4)
    assert result.means['model'][DETECTION_FAILURE] == 0.25
    assert result.means['black'][DETECTION_FAILURE] == 1
    assert np.isnan(result.means['black'][DETECTED_LMD])
    assert '3 of 4' in result.notes[DETECTED_LMD]


def test_without_a_detector_its_metric_is_not_computed():
    result = evaluation.evaluate(image_stage(), inference(), {}, image_batches())
    assert DETECTED_LMD not in result.means['model']
    assert result.notes[DETECTED_LMD] == 'not computed: needs face_landmarker.task'
    assert not evaluation.evaluate(pose_stage(), inference(), FROZEN, batches(2, 2), detector=detector).notes


def test_saved_and_loaded_is_the_same(tmp_path):
    result = evaluation.evaluate(image_stage(), inference(), {}, image_batches(), detector=detector, step=12)
    evaluation.save(tmp_path, result)
    loaded = evaluation.load(tmp_path, 'generator')
    assert (loaded.stage, loaded.n, loaded.notes, loaded.step) == ('generator', 4, result.notes, 12)
    np.testing.assert_equal(loaded.means, result.means)
    np.testing.assert_equal(loaded.per_example, result.per_example)
    np.testing.assert_equal(loaded.examples['outputs'], result.examples['outputs'])
    assert sorted(path.name for path in tmp_path.iterdir()) == ['generator.json', 'generator.npz']


def test_what_was_never_saved_or_is_broken_loads_as_nothing(tmp_path):
    assert evaluation.load(tmp_path, 'generator') is None
    evaluation.save(tmp_path, evaluation.evaluate(image_stage(), inference(), {}, image_batches()))
    (tmp_path / 'generator.json').write_text('{"n": ')
    assert evaluation.load(tmp_path, 'generator') is None
