"""Eight virtual CPU devices, strict rank promotion, and where the shared test data lie."""

import os
import pathlib

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=8')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
import pytest

jax.config.update('jax_numpy_rank_promotion', 'raise')

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def shared_data() -> pathlib.Path:
    """The folder of real clips, golden arrays and small models; the test is skipped where it is absent."""
    folder = pathlib.Path(os.environ.get('TALKINGHEAD_DATA', ROOT.parent / 'shared')) / 'data'
    if not folder.is_dir():
        pytest.skip(f'no shared test data at {folder}: set $TALKINGHEAD_DATA')
    return folder
