"""One of the two processes of hosts_test.py: a step of the stages on all devices of both, against one device.

    python stages_run.py HOST:PORT PROCESS STAGE:MODE:FSDP ..

Prints a digest of each result; process 0 compares, and writes an export while the other one waits.
"""

import functools
import pathlib
import sys
import tempfile
import zlib

import chex
import jax
import numpy as np

from talkinghead_jax.export import folders
from talkinghead_jax.train import hosts, sharding
from talkinghead_jax.train.state import create
from talkinghead_jax.train.step import train_step


def whole(x: jax.Array) -> np.ndarray:
    """An array from the parts of it that this process holds: with fsdp, too, it holds one of each."""
    result = np.full(x.shape, np.nan) if x.dtype == np.float32 else np.full(x.shape, -1)
    for shard in x.addressable_shards:
        result[shard.index] = shard.data
    return result.astype(x.dtype)


def step(stages, name, layout, process=0, processes=1):
    """State and scalars after a step for which each process gives its rows of the batch."""
    stage, frozen, batch = stages.make(name)
    state = stages.place(jax.eval_shape(functools.partial(create, stage), jax.random.key(0)), layout)
    frozen = layout.replicate(frozen)
    share = stages.BATCH // processes
    rows = {field: x[process * share:(process + 1) * share] for field, x in batch.items()}
    compiled = sharding.compile_step(functools.partial(train_step, stage, 0), layout, state, frozen,
                                     stage.batch_spec)
    return jax.tree.map(whole, compiled.call(state, frozen, layout.put_batch(rows)))


def export_alone():
    """Write and read an export in this process only."""
    meta = {name: '' for name in ('stage', 'step', 'digest', 'spec_version', 'licence', 'note')}
    meta |= {'functions': {}, 'axes': {}, 'versions': {}, 'platforms': []}
    with tempfile.TemporaryDirectory() as parent:
        folder = pathlib.Path(parent) / 'export'
        folders.write(folder, {'weights': {'x': np.ones(3)}}, {}, meta)
        assert folders.read_meta(folder) == meta


def main(address: str, process: str, *cases: str) -> None:
    hosts.start(address, 2, int(process))
    import sharded_stages_test as stages  # here, because it asks for the devices
    jax.config.update('jax_numpy_rank_promotion', 'raise')
    sharding.SMALLEST_SHARDED = stages.SMALLEST
    found = {}
    for case in cases:
        name, mode, fsdp = case.split(':')
        found[case] = result = step(stages, name, sharding.make_layout(mode, int(fsdp)), int(process), 2)
        digest = functools.reduce(lambda crc, x: zlib.crc32(x.tobytes(), crc), jax.tree.leaves(result), 0)
        print('digest', case, digest, flush=True)
    if hosts.is_main():
        names = {case.split(':')[0] for case in cases}
        alone = {name: step(stages, name, sharding.make_layout(devices=jax.local_devices()[:1])) for name in names}
        for case, result in found.items():
            chex.assert_trees_all_close(result, alone[case.split(':')[0]], rtol=1e-5, atol=1e-5)
        export_alone()
    hosts.wait_for_all('the end')


if __name__ == '__main__':
    main(*sys.argv[1:])
