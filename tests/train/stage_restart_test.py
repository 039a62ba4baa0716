"""The expression stage with the real loader: stopped and resumed to the bit, and compiled exactly once a run."""

import dataclasses
import os
import signal

import chex
import jax
import numpy as np
import pytest

from configs import common
from input_pipeline import loader
from talkinghead_jax import specs
from talkinghead_jax.geometry import face
from talkinghead_jax.stages.registry import make_stage
from talkinghead_jax.train import history, loop, preemption, sharding

STEPS = 6
FRAMES = 40

pytestmark = pytest.mark.usefixtures('quick_compilation')


@pytest.fixture(scope='module')
def run():
    """(config, stage, frozen, records) of a tiny expression stage."""
    config = common.base('tiny')
    config.log.update({'every_steps': 1, 'checkpoint_every_steps': 2})
    config.expression.update({'steps': STEPS, 'batch_size': 2})
    config.expression.model.width = 4
    config.expression.data.frames = 4
    rng = np.random.default_rng(0)
    records = [{
        'audio': rng.integers(-3000, 3000, (FRAMES, specs.CHUNK)).astype(np.int16), 'speech_level': np.float32(1700),
        'landmarks': (face.TEMPLATE + 2 * rng.normal(size=(FRAMES, 68, 3))).astype(np.float32),
        'pose': 0.1 * rng.normal(size=(FRAMES, 6)).astype(np.float32), 'key_frame': np.int32(3),
        'closed_mouth_frame': np.int32(5),
    } for _ in range(3)]
    frozen = {'pca_mean': face.TEMPLATE.astype(np.float32), 'pca_deviation': np.linspace(8, 1, 20, dtype=np.float32),
              'pca_basis': np.linalg.qr(rng.normal(size=(204, 20)))[0].T.reshape(20, 68, 3).astype(np.float32),
              'speech_regression': 0.01 * rng.normal(size=(specs.WINDOW_FEATURES, 20)).astype(np.float32)}
    stage = make_stage('expression', config, {'vertices': 0, 'triangles': 0, 'components': 20})
    return config, stage, frozen, records


@pytest.fixture
def compilations(monkeypatch):
    """Programs compiled: 'before' a step is, 'with' it, and 'after' its first call until the loop has ended.

    Orbax's are not counted: with several devices it cuts the arrays up, so that each writes its part.
    """
    found = {'before': 0, 'with': 0, 'after': 0}
    now = ['before']

    def listen(event, *_, fun_name='', **__):
        if event == '/jax/core/compile/backend_compile_duration' and fun_name != 'jit(slice)':
            found[now[0]] += 1
    original = sharding.compile_step

    def compile_step(*args):
        now[0] = 'with'
        compiled = original(*args)

        def call(*args):
            result = compiled.call(*args)
            now[0] = 'after'
            return result
        return dataclasses.replace(compiled, call=call)
    monkeypatch.setattr(sharding, 'compile_step', compile_step)
    jax.monitoring.register_event_duration_secs_listener(listen)
    original_exit = preemption.Watch.__exit__

    def leave(*args):
        now[0] = 'before'
        original_exit(*args)
    monkeypatch.setattr(preemption.Watch, '__exit__', leave)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def _train(run, workdir, stop_before=None, mode='sharded', devices=1, steps=STEPS):
    """Train; SIGTERM arrives while batch number `stop_before` is made."""
    config, stage, frozen, records = run

    def batches(first_step):
        for number, batch in enumerate(loader.record_batches(records, 'expression', config, first_step)):
            if first_step + number == stop_before:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch
    return loop.train(stage, config, frozen, batches, workdir, progress=False, steps=steps,
                      layout=sharding.make_layout(mode, devices=jax.devices()[:devices]))


def test_a_stopped_stage_goes_on_to_the_bit_and_each_run_compiles_its_step_once(run, tmp_path, compilations):
    whole = _train(run, tmp_path / 'whole')
    assert compilations['before'] > 0  # the state's: so the compiler is heard
    assert (compilations['with'], compilations['after']) == (1, 0)

    with pytest.raises(preemption.PreemptedError, match=r'stage expression was asked to stop and has saved step \d'):
        _train(run, tmp_path / 'parts', stop_before=4)
    assert 0 < history.read(tmp_path / 'parts', 'expression')[-1]['step'] < STEPS
    parts = _train(run, tmp_path / 'parts')
    chex.assert_trees_all_equal(jax.device_get(parts), jax.device_get(whole))
    assert (compilations['with'], compilations['after']) == (3, 0)

    on = _train(run, tmp_path / 'parts', mode='pmap', devices=2, steps=STEPS + 2)
    assert int(on.step) == STEPS + 2
    assert (compilations['with'], compilations['after']) == (4, 0)
