"""The generator stage at full size: 256 px, a dense mesh, batch 1; memory, FLOPs and seconds of its programs.

    python -m benchmarks.full_size [--references=1,8] [--dtype=float32,bfloat16] [--remat=,light,full]
        [--perceptual=0] [--program=step,predict] [--calls=1]

Each combination runs in a process of its own, so that its peak of resident memory is its own; `--calls=0` only
compiles, which needs little memory. Results are gathered in docs/full_size.json, a combination measured again in the
old one's place, and docs/full_size.md shows all of them beside the parameters.
"""

import argparse
import concurrent.futures
import functools
import itertools
import json
import multiprocessing
import os
import pathlib
import resource
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import meshes, parameters, report
from configs import voxceleb2
from talkinghead_jax import files, specs
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.stages import registry
from talkinghead_jax.stages.base import Stage
from talkinghead_jax.train import sharding, state, step
from third_party.vgg19.network import VGG19

# A CPU's default schedule computes early whatever can run beside other work, what checkpointing puts off included.
SAVE_MEMORY = '--xla_cpu_enable_concurrency_optimized_scheduler=false'
FOLDER = pathlib.Path(__file__).resolve().parent.parent / 'docs'
GIB = 2 ** 30
ORIGINAL_DISCRIMINATOR = 2_797_601  # parameters


class Case(NamedTuple):
    """What is measured: program 'step' (one train step) or 'predict' (one image)."""

    program: str
    references: int
    dtype: str
    remat: str
    perceptual: float


def make_config(case: Case) -> ConfigDict:
    """The full-size config as `case` wants it, batch 1."""
    config = voxceleb2.get_config('generator')
    config.dtype = case.dtype
    stage = config.generator
    stage.batch_size = 1
    stage.data.references = case.references
    stage.model.remat = case.remat
    stage.losses.perceptual.weight = case.perceptual
    return config


def make_stage(config: ConfigDict, mesh: meshes.Mesh) -> Stage:
    """The generator stage for `mesh`."""
    return registry.make_stage('generator', config, {
        'vertices': len(mesh.vertices), 'triangles': len(mesh.triangles), 'components': 20})


def example_batch(references: int, size: int, mesh: meshes.Mesh) -> dict[str, np.ndarray]:
    """One example: the template's landmarks and the mesh in plausible poses, noise for images."""
    rng = np.random.default_rng(0)
    pose = (rng.standard_normal((1, references + 2, 6)) * [0.1, 0.2, 0.05, 4, 4, 4]).astype(np.float32)
    template = np.broadcast_to(face.TEMPLATE.astype(np.float32), (*pose.shape[:2], specs.LANDMARKS, 3))
    landmarks = rigid.apply_pose(template, pose)
    images = rng.integers(0, 255, (1, references + 2, size, size, 3), np.uint8)
    return {
        'references': images[:, 2:], 'reference_landmarks': landmarks[:, 2:], 'reference_pose': pose[:, 2:],
        'reference_mask': np.ones((1, references), bool), 'key_image': images[:, 0],
        'key_landmarks': landmarks[:, 0], 'key_pose': pose[:, 0], 'mesh_vertices': meshes.posed(mesh, 1),
        'mesh_visibility': np.ones((1, len(mesh.vertices)), np.float32), 'target': images[:, 1],
        'target_landmarks': landmarks[:, 1], 'target_pose': pose[:, 1], 'mask': np.ones(1, bool),
    }


def make_frozen(config: ConfigDict, mesh: meshes.Mesh) -> dict[str, Any]:
    """The stage's frozen fields: topology, unit deviations, and VGG19 of random weights where it is wanted."""
    frozen = {'triangles': mesh.triangles, 'pose_deviation': np.ones(6, np.float32)}
    if config.generator.losses.perceptual.weight:
        image = np.zeros((1, config.image_size, config.image_size, 3), np.float32)
        frozen['vgg19'] = VGG19().init(jax.random.key(0), image)['params']
    return frozen


def measure(case: Case, calls: int) -> dict[str, Any]:
    """Compile `case`, call it `calls` times, and say what that took."""
    config, mesh = make_config(case), meshes.synthetic_face()
    stage = make_stage(config, mesh)
    layout = sharding.make_layout(config.parallel.mode, config.parallel.fsdp, jax.devices()[:1])
    create = functools.partial(state.create, stage)
    abstract = layout.shard_state(jax.eval_shape(create, jax.random.key(0), None))
    frozen = layout.replicate(make_frozen(config, mesh))
    if case.program == 'step':
        train_step = functools.partial(step.train_step, stage, config.seed)
        compiled = sharding.compile_step(train_step, layout, abstract, frozen, stage.batch_spec)
        executable, seconds = compiled.call, compiled.compile_seconds
    else:
        executable, seconds = _compile_predict(stage, layout, abstract, frozen)
    result = {**case._asdict(), 'compile_seconds': seconds, **_costs(executable), 'peak_compiling': _peak(),
              'device': report.device(), 'jax': jax.__version__}
    if calls:
        current = layout.create_state(create, jax.random.key(0), None)
        batch = layout.put_batch(example_batch(case.references, config.image_size, mesh))
        result |= _run(case, executable, current, frozen, batch, calls)
    return result


def _compile_predict(stage: Stage, layout: sharding.Layout, abstract: Any, frozen: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    with layout.context:
        executable = jax.jit(stage.predict).lower(
            abstract.params, abstract.model_state, frozen, layout.abstract_batch(stage.batch_spec)).compile()
    return executable, time.perf_counter() - start


def _costs(executable: Any) -> dict[str, Any]:
    """What the compiler says of a program: FLOPs and bytes; aliased output (the donated state) counts once."""
    memory = executable.memory_analysis()
    return {'flops': executable.cost_analysis()['flops'], 'arguments': memory.argument_size_in_bytes,
            'outputs': memory.output_size_in_bytes - memory.alias_size_in_bytes,
            'temporaries': memory.temp_size_in_bytes}


def _run(case: Case, executable: Any, current: Any, frozen: Any, batch: Any, calls: int) -> dict[str, Any]:
    """The first call's outcome, the median seconds of all, and the process's peak of resident memory."""
    seconds, losses, shape = [], [], []
    for _ in range(calls):
        start = time.perf_counter()
        if case.program == 'step':
            current, scalars = jax.block_until_ready(executable(current, frozen, batch))
            losses.append({name: float(value) for name, value in scalars.items()})
        else:
            outputs = jax.block_until_ready(executable(current.params, current.model_state, frozen, batch))
            shape = [*outputs['image'].shape]
            losses.append({name: float(np.abs(value).max()) for name, value in outputs.items()})
        seconds.append(time.perf_counter() - start)
    finite = all(np.isfinite(value) for row in losses for value in row.values())
    return {'seconds': float(np.median(seconds)), 'calls': calls, 'finite': finite, 'peak': _peak(),
            'values': losses[-1], 'image_shape': shape}


def _peak() -> int:
    """Bytes: the most that this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def gather(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`results` put among those of docs/full_size.json, each in its old one's place; writes both files."""
    path = FOLDER / 'full_size.json'
    known = json.loads(path.read_text()) if path.exists() else []
    rows = {Case(*(row[field] for field in Case._fields)): row for row in [*known, *results]}
    rows = [rows[case] for case in sorted(rows, key=lambda case: (-ord(case.program[0]), *case[1:]))]
    files.write_atomically(path, (json.dumps(rows, indent=1) + '\n').encode())
    files.write_atomically(FOLDER / 'full_size.md', document(rows).encode())
    return rows


def document(rows: list[dict[str, Any]]) -> str:
    """docs/full_size.md."""
    config = make_config(Case('step', 8, 'float32', '', 0.0))
    stage = make_stage(config, meshes.synthetic_face())
    params = parameters.abstract_params(config)
    return f"""# The generator at full size

`make bench-full` writes this page: {config.image_size} px, a mesh of 87 thousand triangles, `configs/voxceleb2.py`.

## Parameters

{parameters.table(params['gen'])}

The discriminators have {sum(leaf.size for leaf in jax.tree.leaves(params['disc'])):,} parameters at two scales, the
original's one {ORIGINAL_DISCRIMINATOR:,}.

## Programs

Batch 1. `step` is one train step of generator and discriminators with Adam and the moving average, `predict` one
image. FLOPs and GiB of arguments (the state, which is updated in place) and temporaries are the compiler's; peak is
the process's resident memory, compilation included. `remat` is `config.generator.model.remat`; VGG19 has random
weights. On a CPU bfloat16 is emulated, and `{SAVE_MEMORY}` is set.

{table(rows)}

## What each module returns

Batch 1, K = 8; convolutions' own names are Flax's.

{parameters.shapes_table(stage)}
"""


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one line a case; what was only compiled has no seconds and no peak."""
    head = ('program', 'K', 'dtype', 'remat', 'VGG19', 'GFLOP', 'arguments GiB', 'temporaries GiB', 'peak GiB',
            'compile s', 's a call', 'finite', 'device')
    lines = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
    for row in rows:
        memory = [row['arguments'], row['temporaries'], row.get('peak')]
        cells = [row['program'], row['references'], row['dtype'], row['remat'] or 'none',
                 'yes' if row['perceptual'] else 'no', f'{row["flops"] / 1e9:.0f}',
                 *('' if size is None else f'{size / GIB:.2f}' for size in memory), f'{row["compile_seconds"]:.0f}',
                 f'{row["seconds"]:.1f}' if 'seconds' in row else '', row.get('finite', ''), row['device']]
        lines.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(lines)


def main() -> None:
    """Measure every combination that the flags name, one process each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default in (('program', 'step,predict'), ('references', '1,8'), ('dtype', 'float32'), ('remat', ''),
                          ('perceptual', '0')):
        parser.add_argument(f'--{flag}', default=default)
    parser.add_argument('--calls', type=int, default=1)
    flags = parser.parse_args()
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {SAVE_MEMORY}'  # for the processes started below
    kinds = (str, int, str, str, float)
    values = (map(kind, getattr(flags, field).split(',')) for kind, field in zip(kinds, Case._fields, strict=True))
    for case in itertools.starmap(Case, itertools.product(*values)):
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
            result = pool.submit(measure, case, flags.calls).result()
        print(json.dumps(result), flush=True)
        gather([result])


if __name__ == '__main__':
    main()
