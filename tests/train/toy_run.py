"""Train the toy GAN until it is done, killed or asked to stop: the subprocess of restart_test.py and hosts_test.py.

    python toy_run.py [--pause=SECONDS_A_BATCH] [--steps=N] [--address=HOST:PORT --processes=N --process=I]
        WORKDIR:MODE:FSDP ..

On one device; with --address on all devices of all processes, each of which feeds its rows of the batch.
"""

import argparse
import sys

import jax
import toy_stages

from talkinghead_jax.train import hosts, loop, preemption, sharding


def rows(first_step: int, pause: float = 0.0):
    """This process's rows of `toy_stages.batches`."""
    share = toy_stages.BATCH // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    for batch in toy_stages.batches(first_step, pause):
        yield {name: x[mine] for name, x in batch.items()}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument('runs', nargs='+')
    parser.add_argument('--pause', type=float, default=0.0)
    parser.add_argument('--steps', type=int, default=400)
    parser.add_argument('--address')
    parser.add_argument('--processes', type=int)
    parser.add_argument('--process', type=int)
    args = parser.parse_args()
    if args.address:
        hosts.start(args.address, args.processes, args.process)
    sharding.SMALLEST_SHARDED = toy_stages.FEATURES  # that fsdp has something to split
    config = toy_stages.config(steps=args.steps)
    config.log.update({'every_steps': 4, 'checkpoint_every_steps': 8})
    try:
        for run in args.runs:
            workdir, mode, fsdp = run.rsplit(':', 2)
            layout = sharding.make_layout(mode, int(fsdp), jax.devices()[:None if args.address else 1])
            loop.train(toy_stages.gan(), config, toy_stages.FROZEN, lambda first: rows(first, args.pause), workdir,
                       progress=False, layout=layout)
    except preemption.PreemptedError as error:
        print(error, flush=True)
        return error.exit_code
    return 0


if __name__ == '__main__':
    sys.exit(main())
