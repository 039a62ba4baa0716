"""Theta without its 3-D module: shapes, what each ablation takes away, any number of references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax.models import generator
from talkinghead_jax.nn.initialization import initialize

PARTS = {  # what must go from the parameters with each ablation of Fig. 10(a)
    '': (),
    'no_3d': ('render_flow', 'render_embedding'),
    'no_hybrid': ('activation', 'exchange', 'bottleneck', 'gate'),
    'no_warp': ('render_flow', 'matched_flow'),
    'matting': ('render_embedding', 'matched_embedding'),
}


def make(ablation=''):
    return generator.Generator(4, 8, 3, 1, 1, ablation)


def inputs(references=3, seed=0):
    rng = np.random.default_rng(seed)

    def picture(*axes, low=-1.0):
        return jnp.asarray(rng.uniform(low, 1, axes), jnp.float32)

    target = picture(2, 16, 16, 1, low=0.0)
    sources = {name: generator.Source(picture(2, 16, 16, 3), picture(2, 16, 16, 1, low=0.0),
                                      picture(2, 16, 16, 1, low=0.0), 3 * picture(2, 16, 16, 2))
               for name in ('matched', 'render')}
    return (picture(2, references, 16, 16, 3), picture(2, references, 16, 16, 1, low=0.0),
            jnp.ones((2, references), bool), target, sources)


@pytest.mark.parametrize('ablation', generator.ABLATIONS)
def test_each_ablation_makes_an_image_without_its_part(ablation):
    arguments, module = inputs(), make(ablation)
    params = jax.eval_shape(lambda: initialize(module, jax.random.key(0), *arguments))['params']
    image, warped = jax.eval_shape(lambda p: module.apply({'params': p}, *arguments), params)
    assert image.shape == (2, 16, 16, 3)
    assert set(warped) == ({'matched'} if ablation == 'no_3d' else {'matched', 'render'})
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for part in {part for parts in PARTS.values() for part in parts}:
        assert any(part in name for name in names) == (part not in PARTS[ablation]), part


def test_without_warp_sources_stay_as_they_are():
    arguments, module = inputs(), make('no_warp')
    variables = jax.jit(lambda key: initialize(module, key, *arguments))(jax.random.key(0))
    _, warped = jax.jit(module.apply)(variables, *arguments)
    for name, source in arguments[-1].items():
        np.testing.assert_array_equal(warped[name].image, source.image)
        np.testing.assert_array_equal(warped[name].known, source.known)
        assert not np.asarray(warped[name].flow).any()


@pytest.fixture(scope='module')
def full():
    """(apply, variables) of the full network."""
    module = make()
    variables = jax.jit(lambda key: initialize(module, key, *inputs()))(jax.random.key(0))
    return jax.jit(module.apply), variables


@pytest.mark.parametrize('references', [1, 32])
def test_one_set_of_parameters_takes_any_number_of_references(full, references):
    apply, variables = full
    image, _ = apply(variables, *inputs(references))
    assert image.shape == (2, 16, 16, 3)
    assert np.isfinite(image).all()
    assert float(jnp.abs(image).max()) <= 1


@pytest.mark.parametrize('name', ['matched', 'render'])
def test_the_warped_source_is_guidance(full, name):
    """The picture follows each source, in its own example only."""
    apply, variables = full
    *rest, sources = inputs()
    source = sources[name]
    changed = {**sources, name: source._replace(image=source.image.at[1].multiply(-1))}
    difference = np.abs(np.asarray(apply(variables, *rest, changed)[0] - apply(variables, *rest, sources)[0]))
    assert difference[0].max() < 1e-5
    assert difference[1].mean() > 1e-3
