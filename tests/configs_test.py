"""Every config with every stage: locks, survives JSON, and its train step has the right shapes."""

import json
import pathlib

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import (
    common,
    crema_d,
    demo,
    fig7_crema_d,
    films,
    grid,
    lrs3_ted,
    lrw,
    table1_lrw,
    table1_voxceleb2,
    table2_lrs3_ted,
    table2_voxceleb2,
    voxceleb2,
)
from input_pipeline import examples
from talkinghead_jax import specs
from talkinghead_jax.models import generator
from talkinghead_jax.nn import randomness
from talkinghead_jax.stages import registry

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = {'demo': demo.get_config, 'common': lambda: common.base('full_size')}
FILMS = {'voxceleb2': voxceleb2, 'lrs3_ted': lrs3_ted, 'lrw': lrw, 'grid': grid, 'crema_d': crema_d}
AXES = {'vertices': 500, 'triangles': 900, 'components': 20}


def abstract_frozen(size: int) -> dict[str, jax.ShapeDtypeStruct]:
    letters = {'P': AXES['components'], 'F': AXES['triangles'], 'S': size}
    return {name: field.array(**letters) for name, field in specs.METADATA.items()}


@pytest.mark.parametrize('name', CONFIGS)
def test_config_locks_and_survives_json(name):
    config = CONFIGS[name]()
    config.lock()
    assert ConfigDict(json.loads(config.to_json())).to_dict() == json.loads(config.to_json())


@pytest.mark.parametrize('stage_name', common.STAGES)
@pytest.mark.parametrize('name', CONFIGS)
def test_losses_of_every_stage_have_the_right_shapes(name, stage_name):
    config = CONFIGS[name]()
    if stage_name == 'generator':
        config.generator.losses.perceptual.weight = 0.0  # VGG's weights come from outside
    stage = registry.make_stage(stage_name, config, AXES)
    params, model_state = jax.eval_shape(stage.init, jax.random.key(0))
    assert set(params) == {player.name for player in stage.players}
    batch_size = next(iter(stage.batch_spec.values())).shape[0]
    keys = jax.eval_shape(lambda: randomness.example_keys(0, 0, np.arange(batch_size)))
    losses, (new_state, scalars) = jax.eval_shape(
        stage.losses, params, model_state, abstract_frozen(config.image_size), dict(stage.batch_spec), keys)
    assert set(losses) == set(params)
    assert all(loss.shape == () for loss in [*losses.values(), *scalars.values()])
    assert jax.tree.map(lambda a: (a.shape, a.dtype), new_state) == jax.tree.map(
        lambda a: (a.shape, a.dtype), model_state)


@pytest.mark.parametrize(('argument', 'words'), [
    ('generatr', "unknown stage 'generatr'; stages are unprojection"),
    ('generator,ablation=no_4d', "unknown ablation 'no_4d'; ablations are no_3d, no_hybrid"),
    ('generator,ablate=no_3d', "unknown option 'ablate=no_3d' of stage generator"),
    ('expression,ablation=no_3d', "unknown option 'ablation=no_3d' of stage expression"),
    ('generator,', "unknown option ''"),
])
def test_a_wrong_argument_is_named(argument, words):
    with pytest.raises(ValueError, match=words):
        demo.get_config(argument)


def test_an_ablation_is_an_argument():
    assert demo.get_config('generator').generator.model.ablation == ''
    for name in common.ABLATIONS:
        config = demo.get_config(f'generator,ablation={name}')
        assert (config.stages, config.generator.model.ablation) == (('generator',), name)


def test_the_configs_know_every_ablation():
    assert ('', *common.ABLATIONS) == generator.ABLATIONS == common.base('').study.variants


@pytest.mark.parametrize('name', FILMS)
def test_a_dataset_of_films_trains_the_generator_unless_told_otherwise(name):
    config = FILMS[name].get_config()
    config.lock()
    assert (config.name, config.data.dataset, config.stages) == (name, name, ('generator',))
    assert ConfigDict(json.loads(config.to_json())).to_dict() == json.loads(config.to_json())
    assert FILMS[name].get_config('generator,ablation=no_3d').generator.model.ablation == 'no_3d'
    refused = {'unprojection': f'{name} holds no position maps for stage unprojection; train it with configs/w300_lp'}
    if name == 'lrw':
        refused['head_motion'] = 'head_motion cannot be trained on lrw; its stages are expression, generator'
    for stage in films.STAGES:
        if stage not in refused:
            assert FILMS[name].get_config(stage).stages == (stage,)
    for stage, words in refused.items():
        with pytest.raises(ValueError, match=words):
            FILMS[name].get_config(stage)


@pytest.mark.parametrize(('module', 'workdir', 'protocol'), [
    (table1_lrw, 'lrw', 'audio_driven'), (table1_voxceleb2, 'voxceleb2', 'audio_driven'),
    (table2_lrs3_ted, 'lrs3_ted', 'landmark_driven'), (table2_voxceleb2, 'voxceleb2', 'landmark_driven'),
    (fig7_crema_d, 'crema_d', 'audio_driven')])
def test_the_papers_comparisons_evaluate_the_checkpoints_of_their_dataset(module, workdir, protocol):
    config = module.get_config()
    config.lock()
    assert (config.name, config.data.dataset, config.evaluation.protocols) == (workdir, workdir, (protocol,))
    other = FILMS[workdir].get_config()
    with config.unlocked():
        del config.evaluation, other.evaluation
    assert config.to_json() == other.to_json()  # so that the prepared data and the checkpoints fit


@pytest.mark.parametrize(('module', 'frames'), [(lrw, 29), (grid, 75)])
def test_clips_of_one_length_are_evaluated_to_their_end(module, frames):
    config = module.get_config()
    assert config.expression.data.evaluation_frames == frames - examples.context_frames(frames)
    spec = examples.batch_spec('generator', config.generator, config.image_size, AXES['vertices'], True, 2)
    assert spec['references'].shape == (2, 1, 256, 256, 3)
