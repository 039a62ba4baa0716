"""Seconds a train step takes, per stage of a config, and the seconds its compilation took.

    python -m benchmarks.train_step [--config=configs/demo.py] [--steps=20]

Batches are random arrays of the stage's batch spec, so the figures hold the step alone, without input.
"""

import argparse
import importlib.util
import statistics
import time

import jax
import numpy as np

from talkinghead_jax import specs
from talkinghead_jax.stages import registry
from talkinghead_jax.train import sharding, state, step

AXES = {'vertices': 4096, 'triangles': 7938, 'components': 20}


def random_batch(spec: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """An array for every field of `spec`: bytes and booleans over their range, floats near the crop's middle."""
    def draw(field: jax.ShapeDtypeStruct) -> np.ndarray:
        if field.dtype == bool:
            return np.ones(field.shape, bool)
        if np.issubdtype(field.dtype, np.integer):
            return rng.integers(0, 255, field.shape).astype(field.dtype)
        return (128 + 30 * rng.standard_normal(field.shape)).astype(field.dtype)
    batch = {name: draw(field) for name, field in spec.items()}
    return {name: array * 0.001 if 'pose' in name else array for name, array in batch.items()}


def main() -> None:
    """Print one line a stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', default='configs/demo.py')
    parser.add_argument('--steps', type=int, default=20)
    arguments = parser.parse_args()
    module_spec = importlib.util.spec_from_file_location('config', arguments.config)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    config = module.get_config()
    rng = np.random.default_rng(0)
    for name in config.stages:
        print(name, measure(name, config, rng, arguments.steps), flush=True)
