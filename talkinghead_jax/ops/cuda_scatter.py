"""The CUDA releases of jaxlib on which float scatters crawl."""

import functools
import re
import warnings

import jax
import jaxlib

FIRST, LAST = (0, 10, 2), (0, 11, 0)


@functools.cache
def warn_if_slow() -> None:
    """Warn, once, where adding floats to an array falls into compare-and-swap loops (jax issue 38806).

    Both custom ops add by scatters on a GPU. Reports speak of several hundred times the time under contention.
    """
    if jax.default_backend() != 'gpu' or not _is_cuda():
        return
    version = tuple(int(part) for part in re.findall(r'\d+', jaxlib.__version__)[:3])
    if FIRST <= version <= LAST:
        warnings.warn(
            f'jaxlib {jaxlib.__version__} runs float scatter-adds on CUDA as compare-and-swap loops, which makes '
            'the soft rasterizer and the backward flow warp many times slower: use jaxlib 0.11.1 or later '
            '(Python 3.12), or 0.10.1', RuntimeWarning, stacklevel=3)


def _is_cuda() -> bool:
    return 'cuda' in jax.devices()[0].client.platform_version.lower()
