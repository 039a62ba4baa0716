"""VoxCeleb2 at full size: 256 px, 8 references, the paper's schedule.

    launch.py --config=configs/voxceleb2.py --workdir=runs/voxceleb2                        # trains the generator
    launch.py --config=configs/voxceleb2.py:expression --workdir=runs/voxceleb2             # another stage
    launch.py --config=configs/voxceleb2.py --workdir=runs/voxceleb2 --config.dtype=bfloat16   # on accelerators

It reads data that `--mode=prepare` has left in WORKDIR/data. The sizes, the memory and the arithmetic of a step are
in docs/full_size.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = 'generator') -> ConfigDict:
    """The config; `argument`, STAGE[,ablation=NAME], is what is trained and evaluated."""
    config = common.base('voxceleb2')
    config.data.dataset = 'voxceleb2'
    common.select(config, argument)
    return config
