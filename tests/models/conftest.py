"""Small networks that run once or twice: compiling them well would take longer than running them."""

import jax
import pytest


@pytest.fixture(scope='module', autouse=True)
def quick_compilation():
    """XLA skips most of its optimizations."""
    jax.config.update('jax_disable_most_optimizations', True)
    yield
    jax.config.update('jax_disable_most_optimizations', False)
