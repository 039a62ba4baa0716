"""config.dtype = 'bfloat16', for every stage: what runs in it and what stays float32. Only traced, never compiled."""

import functools
import re

import generator_stage_test as generators
import jax
import jax.numpy as jnp
import learners_test as learners
import numpy as np
import pytest

from talkinghead_jax.stages.registry import make_stage
from talkinghead_jax.train.state import create
from talkinghead_jax.train.step import train_step
from third_party.vgg19.network import VGG19

SINGLE, HALF = np.dtype('float32'), jnp.dtype('bfloat16')
STAGES = ('expression', 'head_motion', 'unprojection', 'generator')
PRODUCTS = ('conv_general_dilated', 'dot_general')
NETWORKS = re.compile('ExpressionNet|HeadMotionNet|MotionDiscriminator|UnprojectionNet|Generator|VGG19|'
                      'MultiScaleDiscriminator')
# The products within networks that bfloat16's three digits would spoil. Sound: the filters of the log-mel spectrum.
# Poses: bases and readings fitted to a person's reference, and the discriminator of 36 statistics of a motion.
# Pixels: a flow, and the positions and motions of unprojection. Spectral norms: the power iteration.
EXACT = {
    'expression': 'speech dot_general$',
    'head_motion': r'speech dot_general$|_person/(b\w+,b\w+->b\w+)? |_poses/bti,bio->bto |MotionDiscriminator',
    'unprojection': r'Keypoints_\d/|global/Dense_2 |/bij,hwj->bhwi ',
    'generator': r'_flow/(flow|attention) |SpectralConv_\d dot_general$',
}
# Features of two images are subtracted as they are and averaged in float32 (losses/gan.py, losses/perceptual.py).
OF_FEATURES = {'sub', 'abs', 'ge', 'stop_gradient', 'convert_element_type'}


def _stage(name):
    """A tiny stage in bfloat16, and its frozen arrays."""
    if name == 'generator':
        config = generators.tiny_config()
        config.generator.losses.perceptual.weight = 1.0
        config.generator.model.discriminator.update({'layers': 2, 'scales': 1})
        frozen, picture = generators.make_frozen(), jnp.zeros((1, 32, 32, 3))
        frozen['vgg19'] = jax.eval_shape(VGG19((2,) * 5).init, jax.random.key(0), picture)['params']
        axes = generators.AXES
    else:
        config = learners._config()
        config.head_motion.losses.adversarial = 0.5
        config.unprojection.model.momentum = 0.9
        frozen, axes = learners._frozen(config.image_size), learners.AXES
    config.dtype = 'bfloat16'
    return make_stage(name, config, axes), frozen


def _operations(jaxpr, scope=''):
    """(scope, equation) of each primitive of `jaxpr` and of what it calls; a flax module's name is a scope."""
    for equation in jaxpr.eqns:
        name = f'{scope}/{equation.source_info.name_stack}'
        inner = [getattr(x, 'jaxpr', x) for x in jax.tree.leaves(list(equation.params.values()))]
        inner = [x for x in inner if hasattr(x, 'eqns')]
        if not inner:
            yield name, equation
        for called in inner:
            yield from _operations(called, name)


def _kinds(equation):
    return {getattr(x.aval, 'dtype', None) for x in (*equation.invars, *equation.outvars)}


@pytest.mark.parametrize('name', STAGES)
def test_networks_multiply_in_bfloat16_and_all_else_is_float32(name):
    stage, frozen = _stage(name)
    state = jax.eval_shape(functools.partial(create, stage), jax.random.key(0))
    traced, (after, scalars) = jax.make_jaxpr(functools.partial(train_step, stage, 0), return_shape=True)(
        state, frozen, dict(stage.batch_spec))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert {x.dtype for x in jax.tree.leaves((state.params, state.model_state, state.ema, scalars))} == {SINGLE}
    assert {x.dtype for x in jax.tree.leaves(state)} == {SINGLE, np.dtype('int32')}  # counters

    low = exact = 0
    for scope, equation in _operations(traced.jaxpr):
        primitive, found = equation.primitive.name, f'{scope} {equation.primitive.name}: {equation}'
        if 'transpose(' in scope:
            continue  # a gradient has the type of what it is of
        if not NETWORKS.search(scope):
            assert HALF not in _kinds(equation) or primitive in OF_FEATURES, found
        elif 'gather' in primitive or 'scatter' in primitive:
            assert HALF not in _kinds(equation), found  # warps
        elif primitive in PRODUCTS:
            is_exact = re.search(EXACT[name], f'{scope} {primitive}') is not None
            assert {x.aval.dtype for x in equation.invars} == {SINGLE if is_exact else HALF}, found
            low, exact = low + (not is_exact), exact + is_exact
    assert low > 5
    assert exact > 1
