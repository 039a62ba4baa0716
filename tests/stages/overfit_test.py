"""Theta can learn: eight frames of a real clip that are not among its references, from reconstruction alone."""

import functools

import jax
import numpy as np
import pytest

from configs import demo
from input_pipeline import examples, preprocess
from input_pipeline.face_tracking import LANDMARKER, MediaPipeDetector
from input_pipeline.mediapipe_mapping import POINTS, mesh_triangles
from talkinghead_jax import specs
from talkinghead_jax.stages.registry import make_stage
from talkinghead_jax.train.state import create
from talkinghead_jax.train.step import train_step

TARGETS, BATCH, STEPS = 8, 4, 80
FRAMES = specs.CONTEXT + 64  # of the clip: references come from the first 64, targets from the rest
WANTED = 24.0  # dB


def overfit_config():
    """The demo's generator; of its losses only the plain L1."""
    config = demo.get_config('generator')
    stage = config.generator
    stage.steps, stage.batch_size = STEPS, BATCH
    stage.optim.learning_rate = 3e-3
    for loss in stage.losses.values():
        loss.weight = 0.0
    stage.losses.reconstruction.update({'weight': 1.0, 'ssim_share': 0.0, 'expression': 0.0})
    stage.data.update({'references': 4, 'targets_per_clip': TARGETS})
    return config


@pytest.fixture(scope='module')
def record(shared_data):
    with MediaPipeDetector(shared_data / 'models' / LANDMARKER) as detector:
        return preprocess.prepare_media(shared_data / 'clips/voxceleb2/00098.mp4', detector,
                                        options=preprocess.Options(image_size=64), max_frames=FRAMES)


@pytest.mark.usefixtures('quickly_compiled')
def test_eight_unseen_frames_are_learned(record):
    config = overfit_config()
    drawn = [examples.sample('generator', record, np.random.default_rng(0), config.generator, config.image_size,
                             training=False, target=i) for i in range(TARGETS)]
    batch = {name: np.stack([example[name] for example in drawn]) for name in drawn[0]}
    batch['mask'] = np.ones(TARGETS, bool)
    halves = [{name: value[i::TARGETS // BATCH] for name, value in batch.items()} for i in range(TARGETS // BATCH)]
    triangles = mesh_triangles()
    stage = make_stage('generator', config, {'vertices': POINTS, 'triangles': len(triangles), 'components': 20})
    frozen = {'triangles': triangles, 'pose_deviation': record['pose'].std(0)}
    state = jax.jit(functools.partial(create, stage))(jax.random.key(0))
    step = jax.jit(functools.partial(train_step, stage, 0), donate_argnums=0)
    for i in range(STEPS):
        state, _ = step(state, frozen, halves[i % len(halves)])
    predict = jax.jit(stage.predict)
    decibels = np.concatenate([
        stage.metrics(predict(state.params, state.model_state, frozen, half), half, frozen)['psnr']
        for half in halves])
    copied = np.asarray(stage.metrics(stage.baselines(batch, frozen)['matched_reference'], batch, frozen)['psnr'])
    assert copied.mean() < WANTED - 4  # the references alone do not solve it
    assert decibels.mean() > WANTED, decibels
