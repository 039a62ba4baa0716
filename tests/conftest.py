"""Eight virtual CPU devices, strict rank promotion, quick compilation, and where the shared test data lie."""

import os
import pathlib

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=8')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
import pytest
from jax._src import compiler

jax.config.update('jax_numpy_rank_promotion', 'raise')

ROOT = pathlib.Path(__file__).resolve().parent.parent


# Compile-time option of XLA's former emitters of fused loops, which take half the time; later releases lack them.
FORMER_EMITTERS = (('xla_cpu_use_fusion_emitters', False),) if jax.__version_info__ < (0, 11) else ()


def _compile_options(*arguments, _original=compiler.get_compile_options, **settings):
    options = _original(*arguments, **settings)
    options.env_option_overrides = [*options.env_option_overrides, *FORMER_EMITTERS]
    return options


def _without_optimizations():
    """For programs that run once or against loose bounds: compiling them well takes longer than running them."""
    former = jax.config.values['jax_disable_most_optimizations']
    jax.config.update('jax_disable_most_optimizations', True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, 'get_compile_options', _compile_options)
        yield
    jax.config.update('jax_disable_most_optimizations', former)


quick_compilation = pytest.fixture(scope='module', name='quick_compilation')(_without_optimizations)
quickly_compiled = pytest.fixture(name='quickly_compiled')(_without_optimizations)  # for a single test


@pytest.fixture(scope='session')
def quick_flags() -> str:
    """For the XLA_FLAGS of a process: the emitters that quick compilation uses."""
    return ' '.join(f'--{name}={str(value).lower()}' for name, value in FORMER_EMITTERS)


@pytest.fixture(scope='session')
def shared_data() -> pathlib.Path:
    """The folder of real clips, golden arrays and small models; the test is skipped where it is absent."""
    folder = pathlib.Path(os.environ.get('TALKINGHEAD_DATA', ROOT.parent / 'shared')) / 'data'
    if not folder.is_dir():
        pytest.skip(f'no shared test data at {folder}: set $TALKINGHEAD_DATA')
    return folder
