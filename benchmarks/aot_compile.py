"""Every stage's full-size train step, compiled ahead of time for TPUs that need not be there.

    python -m benchmarks.aot_compile [--stages=generator,unprojection,expression,head_motion]
        [--topologies=v5e:4x4,v6e:4x4] [--batch-per-chip=0] [--dtype=bfloat16] [--fsdp=1] [--remat=]
        [--limit=1500] [--programs=FOLDER]
    python -m benchmarks.aot_compile --stages=    # only draws the page anew

Wanted beside this package: libtpu, as `pip install .[tpu]` brings it (or its folder on PYTHONPATH).
`--batch-per-chip` of 0 is the config's batch size on every chip. Each case is compiled in a process of its own, of at
most `--limit` seconds; `--programs` keeps the programs' texts. Results are gathered in docs/scaling.json, a case
compiled again in its old one's place, and docs/scaling.md shows all of them.
"""

import argparse
import functools
import gzip
import importlib.metadata
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from ml_collections import ConfigDict

from benchmarks import hlo, parameters, scaling, scaling_page
from configs import voxceleb2, w300_lp
from talkinghead_jax import files, specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.stages import registry
from talkinghead_jax.stages.base import Stage
from talkinghead_jax.train import sharding, state, step
from third_party.vgg19.network import VGG19

FOLDER = pathlib.Path(__file__).resolve().parent.parent / 'docs'
# libtpu asks a cloud machine who it is, locks the chips that it is about to use, and logs: none of it is wanted here.
ENVIRONMENT = {'JAX_PLATFORMS': 'cpu', 'TPU_SKIP_MDS_QUERY': '1', 'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
               'TPU_WORKER_HOSTNAMES': 'localhost', 'ALLOW_MULTIPLE_LIBTPU_LOAD': '1', 'TPU_STDERR_LOG_LEVEL': '3',
               'TPU_MIN_LOG_LEVEL': '3'}


class Case(NamedTuple):
    """What is compiled."""

    stage: str
    topology: str
    batch_per_chip: int
    dtype: str
    fsdp: int
    remat: str


def make_config(case: Case) -> ConfigDict:
    """The full-size config that trains `case.stage`."""
    module = w300_lp if case.stage == 'unprojection' else voxceleb2
    config = module.get_config(case.stage)
    config.dtype = case.dtype
    config.parallel.fsdp = case.fsdp
    config.generator.model.remat = case.remat
    return config


def abstract_frozen(stage: Stage, size: int) -> dict[str, Any]:
    """Shapes of what `stage` reads but does not train; VGG19 among them where it is wanted."""
    def field(name: str) -> Any:
        if name == 'vgg19':
            image = jax.ShapeDtypeStruct((1, size, size, 3), 'float32')
            return jax.eval_shape(VGG19().init, jax.random.key(0), image)['params']
        return specs.METADATA[name].array(P=parameters.AXES['components'], F=parameters.AXES['triangles'], S=size)
    return {name: field(name) for name in stage.frozen_fields}


def compile_case(case: Case, programs: str = '') -> dict[str, Any]:
    """Compile the train step of `case` as `train.loop` does, but for abstract arrays, and say what it costs."""
    devices = topologies.get_topology_desc(case.topology, platform='tpu').devices
    config = make_config(case)
    own = config[case.stage]
    own.batch_size = case.batch_per_chip * len(devices)
    stage = registry.make_stage(case.stage, config, parameters.AXES)
    layout = sharding.make_layout(config.parallel.mode, config.parallel.fsdp, devices)
    layout.check_batch_size(case.stage, own.batch_size)
    abstract = layout.shard_state(jax.eval_shape(functools.partial(state.create, stage), jax.random.key(0)))
    frozen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.replicated),
                          abstract_frozen(stage, config.image_size))
    compiled = sharding.compile_step(functools.partial(step.train_step, stage, config.seed), layout, abstract, frozen,
                                     stage.batch_spec)
    text = compiled.call.as_text()
    if programs:
        name = '_'.join(str(value) for value in case if value != '').replace(':', '_')
        files.write_atomically(pathlib.Path(programs) / f'{name}.hlo.gz', gzip.compress(text.encode()))
    return {'chips': len(devices), 'compile_seconds': compiled.compile_seconds, **costs(compiled.call, text)}


def costs(executable: Any, text: str) -> dict[str, Any]:
    """Bytes, FLOPs and seconds as the compiler says, of one chip; and what `hlo.read` finds."""
    memory, analysis, found = executable.memory_analysis(), executable.cost_analysis(), hlo.read(text)
    messages = [{'collective': kind, 'group': group, 'bytes': size, 'times': times}
                for (kind, group, size), times in sorted(found.messages.items(), key=lambda x: -x[0][2] * x[1])]
    return {'arguments': memory.argument_size_in_bytes, 'temporaries': memory.temp_size_in_bytes,
            'outputs': memory.output_size_in_bytes - memory.alias_size_in_bytes,
            'code': memory.generated_code_size_in_bytes, 'flops': analysis['flops'],
            'bytes_accessed': analysis['bytes accessed'], 'optimal_seconds': analysis['optimal_seconds'],
            'custom_calls': found.custom_calls, 'cycles': found.cycles, 'loops': found.loops,
            'open_loops': found.open_loops, 'silent': dict(found.silent), 'messages': messages}


def run(case: Case, limit: float, programs: str) -> dict[str, Any]:
    """`compile_case` in a process of its own: the case and its costs, or the reason why there are none."""
    command = [sys.executable, '-m', 'benchmarks.aot_compile', f'--case={json.dumps(case)}', f'--programs={programs}']
    versions = {'jax': jax.__version__, 'libtpu': importlib.metadata.version('libtpu')}
    try:
        done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True,
                              timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {**case._asdict(), **versions, 'failed': f'not compiled within {limit:.0f} s'}
    if done.returncode:
        return {**case._asdict(), **versions, 'failed': reason(done.stderr)}
    return {**case._asdict(), **versions, **json.loads(done.stdout.splitlines()[-1])}


def reason(stderr: str) -> str:
    """The sentence that matters of a failed compilation: what is over the memory, else the last line."""
    over = re.search(r'Used ([\d.]+\w) of ([\d.]+\w) hbm', stderr)
    if over:
        return f'needs {over[1]}iB of the {over[2]}iB of memory that the compiler may use'
    return (stderr.strip().splitlines() or ['no message'])[-1][:300]


def gather(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`results` put among those of docs/scaling.json, each in its old one's place; writes both files."""
    path = FOLDER / 'scaling.json'
    known = json.loads(path.read_text()) if path.exists() else []
    rows = {Case(*(row[field] for field in Case._fields)): row for row in [*known, *results]}
    rows = [rows[case] for case in sorted(rows, key=_order)]
    files.write_atomically(path, (json.dumps(rows, indent=1) + '\n').encode())
    files.write_atomically(FOLDER / 'scaling.md', scaling_page.document(rows).encode())
    return rows


def _order(case: Case) -> tuple:
    return -registry.STAGES.index(case.stage), scaling.chips(case.topology), *case[1:]


def main() -> None:
    """Compile every combination that the flags name, one process each and one at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default in (('stages', 'generator,unprojection,expression,head_motion'),
                          ('topologies', 'v5e:4x4,v6e:4x4'), ('batch-per-chip', '0'), ('dtype', 'bfloat16'),
                          ('fsdp', '1'), ('remat', ''), ('programs', ''), ('case', '')):
        parser.add_argument(f'--{flag}', default=default)
    parser.add_argument('--limit', type=float, default=1500)
    flags = parser.parse_args()
    if flags.case:
        print(json.dumps(compile_case(Case(*json.loads(flags.case)), flags.programs)))
        return
    try:
        importlib.metadata.version('libtpu')
    except importlib.metadata.PackageNotFoundError:
        sys.exit(str(UserError("found no package libtpu, want the one that `pip install '.[tpu]'` brings")))
    stages = [name for name in flags.stages.split(',') if name]
    values = itertools.product(stages, flags.topologies.split(','), map(int, flags.batch_per_chip.split(',')),
                               flags.dtype.split(','), map(int, flags.fsdp.split(',')), flags.remat.split(','))
    for case in itertools.starmap(Case, values):
        if not case.batch_per_chip:
            case = case._replace(batch_per_chip=make_config(case)[case.stage].batch_size)
        result = run(case, flags.limit, flags.programs)
        print(json.dumps({name: value for name, value in result.items() if name != 'messages'}), flush=True)
        gather([result])
    if not stages:
        gather([])


if __name__ == '__main__':
    main()
