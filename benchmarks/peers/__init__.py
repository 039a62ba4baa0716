"""What the benchmarks compare with."""

import importlib.util

import jax


def absent() -> str | None:
    """A sentence that says why PyTorch cannot be compared with here, if so."""
    if importlib.util.find_spec('torch') is None:
        return "PyTorch is absent; `make bench` installs it, or pip install '.[bench]'"
    import torch
    if jax.default_backend() != 'cpu' and not torch.cuda.is_available():
        return (f'JAX computes on {jax.devices()[0].device_kind}, PyTorch found no GPU; install '
                "PyTorch's CUDA build, or set JAX_PLATFORMS=cpu")
    return None
