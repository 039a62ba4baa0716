"""Seconds that a train step takes, for each stage of a config, and the seconds of its compilation.

    python -m benchmarks.train_step [--config=configs/demo.py] [--steps=20]

Batches are random arrays of the stage's batch spec, so the figures hold the step alone, without input.
"""

import argparse
import functools
import statistics
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.parameters import load_config
from talkinghead_jax import specs
from talkinghead_jax.stages import registry
from talkinghead_jax.train import sharding, state, step
from third_party.vgg19.network import VGG19

AXES = {'vertices': 3230, 'triangles': 6200, 'components': 20}


def random_batch(spec: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """An array for every field of `spec`: bytes over their range, poses near zero, points within the crop."""
    def draw(name: str, field: jax.ShapeDtypeStruct) -> np.ndarray:
        if field.dtype == bool:
            return np.ones(field.shape, bool)
        if np.issubdtype(field.dtype, np.integer):
            return rng.integers(0, 255, field.shape).astype(field.dtype)
        scale, centre = (0.1, 0.0) if 'pose' in name else (30.0, 128.0)
        return (centre + scale * rng.standard_normal(field.shape)).astype(field.dtype)
    return {name: draw(name, field) for name, field in spec.items()}


def random_frozen(size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A dataset's metadata with plausible ranges."""
    letters = {'P': AXES['components'], 'F': AXES['triangles'], 'S': size}
    frozen = {name: np.ones(field.array(**letters).shape, field.dtype) for name, field in specs.METADATA.items()}
    frozen['triangles'] = rng.integers(0, AXES['vertices'], frozen['triangles'].shape).astype(np.int32)
    return frozen


def measure(name: str, config: ConfigDict, steps: int) -> tuple[float, float]:
    """(seconds of compilation, median seconds of a step) of one stage."""
    rng = np.random.default_rng(0)
    stage = registry.make_stage(name, config, AXES)
    layout = sharding.make_layout(config.parallel.mode, config.parallel.fsdp)
    current = layout.create_state(functools.partial(state.create, stage), jax.random.key(0), None)
    frozen = random_frozen(config.image_size, rng)
    if 'vgg19' in stage.frozen_fields:
        frozen['vgg19'] = VGG19().init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))['params']
    frozen = layout.replicate(frozen)
    compiled = sharding.compile_step(functools.partial(step.train_step, stage, config.seed), layout, current, frozen,
                                     stage.batch_spec)
    batch = layout.put_batch(random_batch(dict(stage.batch_spec), rng))
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        current, scalars = compiled.call(current, frozen, batch)
        jax.block_until_ready(scalars)
        seconds.append(time.perf_counter() - start)
    return compiled.compile_seconds, statistics.median(seconds[1:])


def main() -> None:
    """Print one line a stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', default='configs/demo.py')
    parser.add_argument('--steps', type=int, default=20)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    print(f'jax {jax.__version__} on {jax.devices()[0].device_kind}, {arguments.steps} steps, median')
    for name in config.stages:
        compilation, seconds = measure(name, config, arguments.steps)
        print(f'{name:14s} {1000 * seconds:8.1f} ms a step, compiled in {compilation:.1f} s', flush=True)


if __name__ == '__main__':
    main()
