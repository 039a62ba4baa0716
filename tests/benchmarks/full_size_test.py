"""The generator at full size as shapes: parameters as stated, a train step that traces for K = 1 and 8."""

import functools
import math
import re

import jax
import pytest

from benchmarks import full_size, parameters
from configs import demo, voxceleb2
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.stages import registry
from talkinghead_jax.train import state, step

README = full_size.FOLDER.parent / 'README.md'


def abstract_step(config):
    """The stage's abstract state and the train step's jaxpr with its result, abstract too."""
    stage = registry.make_stage('generator', config, parameters.AXES)
    before = jax.eval_shape(functools.partial(state.create, stage), jax.random.key(0))
    frozen = {name: specs.METADATA[name].array(F=parameters.AXES['triangles']) for name in stage.frozen_fields}
    train_step = functools.partial(step.train_step, stage, 0)
    return before, *jax.make_jaxpr(train_step, return_shape=True)(before, frozen, dict(stage.batch_spec))


@pytest.mark.parametrize(('references', 'remat', 'dtype'), [(1, '', 'float32'), (8, 'full', 'bfloat16')])
def test_the_full_size_train_step_keeps_the_specs_of_its_state(references, remat, dtype):
    config = full_size.make_config(full_size.Case('step', references, dtype, remat, 0.0))
    assert (config.image_size, config.generator.data.references) == (256, references)
    before, _, (after, scalars) = abstract_step(config)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), before)
    floats = {x.dtype for x in jax.tree.leaves(after) if jax.numpy.issubdtype(x.dtype, jax.numpy.floating)}
    assert floats == {jax.numpy.dtype('float32')}
    assert {x.shape for x in scalars.values()} == {()}


def test_groups_are_a_partition_and_the_readme_states_their_sum():
    params = parameters.abstract_params(voxceleb2.get_config())['gen']
    own = parameters.totals(params)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sum(own.values()) == count
    assert all(own.values())
    assert sum(group.original for group in parameters.GROUPS) == 107_920_769
    stated = re.search(r'\| \*\*generator\*\* \| \*\*([\d.]+) M\*\* \| \*\*107.9 M\*\*', README.read_text())
    assert stated, 'no row "generator" in the README'
    assert stated[1] == f'{count / 1e6:.1f}'


def test_a_parameter_without_a_group_is_named():
    with pytest.raises(ValueError, match=r'decodr/bias belongs to no group'):
        parameters.totals({'decodr': {'bias': jax.ShapeDtypeStruct((2,), 'float32')}})


def test_output_shapes_of_the_demo_size():
    config = demo.get_config('generator')
    config.generator.batch_size = 2
    found = parameters.output_shapes(registry.make_stage('generator', config, parameters.AXES), depth=1)
    assert found['decoder'] == [(2, 64, 64, 3)]
    assert found['matched_flow'] == [(2, 64, 64, 2), (2, 64, 64, 1)]


def products(jaxpr):
    """(kind, dtypes of the factors, name stack, shapes of the factors) of every convolution and matrix product."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ('conv_general_dilated', 'dot_general'):
            factors = [x.aval for x in eqn.invars]
            yield eqn.primitive.name, {str(x.dtype) for x in factors}, str(eqn.source_info.name_stack), factors
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, 'jaxpr', inner)
                if hasattr(inner, 'eqns'):
                    yield from products(inner)


def test_networks_multiply_in_bfloat16_where_it_is_asked_for():
    config = demo.get_config('generator')
    config.dtype = 'bfloat16'
    _, jaxpr, _ = abstract_step(config)
    seen = 0
    for kind, dtypes, name, factors in products(jaxpr.jaxpr):
        if 'Generator' not in name and 'Discriminator' not in name:
            assert dtypes == {'float32'}, (kind, name)  # geometry and losses
        elif kind == 'conv_general_dilated':
            wide = re.search(r'_flow/(flow|attention)', name)  # the two heads
            assert dtypes == {'float32' if wide else 'bfloat16'}, name
            seen += not wide
        elif dtypes == {'float32'}:
            # Power iteration: a matrix times a vector.
            assert 'SpectralConv' in name, name
            assert min(math.prod(x.shape) / max(x.shape, default=1) for x in factors) == 1
    assert seen > 100


def test_an_unknown_remat_is_named():
    config = demo.get_config('generator')
    config.generator.model.remat = 'some'
    with pytest.raises(UserError, match="remat is 'some'; want one of '', 'light', 'full'"):
        registry.make_stage('generator', config, parameters.AXES)


def test_the_table_of_programs_leaves_blank_what_was_only_compiled():
    case = full_size.Case('step', 8, 'float32', 'full', 0.0)
    compiled = {**case._asdict(), 'flops': 2e9, 'arguments': 2 ** 30, 'temporaries': 2 ** 29, 'compile_seconds': 3.2,
                'device': 'a chip'}
    called = {**compiled, 'peak': 3 * 2 ** 30, 'seconds': 1.25, 'finite': True}
    lines = full_size.table([compiled, called]).splitlines()
    assert lines[2] == '| step | 8 | float32 | full | no | 2 | 1.00 | 0.50 |  | 3 |  |  | a chip |'
    assert lines[3] == '| step | 8 | float32 | full | no | 2 | 1.00 | 0.50 | 3.00 | 3 | 1.2 | True | a chip |'
