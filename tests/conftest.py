"""Eight virtual CPU devices, strict rank promotion, quick compilation, and where the shared test data lie."""

import os
import pathlib

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=8')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
import pytest

jax.config.update('jax_numpy_rank_promotion', 'raise')

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _without_optimizations():
    """For programs that run once or against loose bounds: compiling them well takes longer than running them."""
    former = jax.config.values['jax_disable_most_optimizations']
    jax.config.update('jax_disable_most_optimizations', True)
    yield
    jax.config.update('jax_disable_most_optimizations', former)


quick_compilation = pytest.fixture(scope='module', name='quick_compilation')(_without_optimizations)
quickly_compiled = pytest.fixture(name='quickly_compiled')(_without_optimizations)  # for a single test


@pytest.fixture(scope='session')
def shared_data() -> pathlib.Path:
    """The folder of real clips, golden arrays and small models; the test is skipped where it is absent."""
    folder = pathlib.Path(os.environ.get('TALKINGHEAD_DATA', ROOT.parent / 'shared')) / 'data'
    if not folder.is_dir():
        pytest.skip(f'no shared test data at {folder}: set $TALKINGHEAD_DATA')
    return folder
