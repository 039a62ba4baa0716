"""Small networks that run once or twice: compiling them well would take longer than running them."""

import pytest


@pytest.fixture(scope='module', autouse=True)
def _quick(quick_compilation):
    """All of them."""
