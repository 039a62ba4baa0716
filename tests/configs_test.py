"""Every config with every stage: locks, survives JSON, and its train step has the right shapes."""

import json
import pathlib

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common, demo
from talkinghead_jax import specs
from talkinghead_jax.models import generator
from talkinghead_jax.nn import randomness
from talkinghead_jax.stages import registry

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = {'demo': demo.get_config, 'common': lambda: common.base('full_size')}
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
