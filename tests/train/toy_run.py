"""Train the toy GAN on one device until it is killed: the subprocess of restart_test.py.

    python toy_run.py WORKDIR SECONDS_A_BATCH
"""

import sys

import jax
import toy_stages

from talkinghead_jax.train import loop, preemption, sharding


def main(workdir: str, pause: str) -> int:
    config = toy_stages.config(steps=400)
    config.log.update({'every_steps': 4, 'checkpoint_every_steps': 8})
    try:
        loop.train(toy_stages.gan(), config, toy_stages.FROZEN,
                   lambda first: toy_stages.batches(first, float(pause)), workdir, progress=False,
                   layout=sharding.make_layout(devices=jax.devices()[:1]))
    except preemption.PreemptedError as error:
        print(error)
        return error.exit_code
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
