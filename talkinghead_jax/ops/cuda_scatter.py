"""The CUDA releases of jaxlib on which float scatters crawl."""

import functools
import warnings

import jax
import jaxlib

FIRST, LAST = (0, 10, 2), (0, 11, 0)


@functools.cache
def warn_if_slow() -> None:
    """Warn, once, where adding floats to an array falls into compare-and-swap loops (jax issue 38806).

    Both custom ops add by scatters on a GPU. Reports speak of several hundred times the time under contention.
    """
    version = tuple(int(part) for part in jaxlib.__version__.split('.')[:3])
    if jax.default_backend() == 'gpu' and _is_cuda() and FIRST <= version <= LAST:
        warnings.warn(
            f'jaxlib {jaxlib.__version__} runs float scatter-adds on CUDA as compare-and-swap loops, which makes '
            'the soft rasterizer and the backward flow warp many times slower: use jaxlib 0.11.1 or later '
            '(Python 3.12), or 0.10.1', RuntimeWarning, stacklevel=3)


def _is_cuda() -> bool:
    return 'cuda' in jax.devices()[0].client.platform_version.lower()
