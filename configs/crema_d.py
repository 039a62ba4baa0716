"""CREMA-D at full size: 256 px and, as in the original, one reference.

    launch.py --config=configs/crema_d.py --mode=prepare --config.data.media=DIR      # into runs/crema_d/data
    launch.py --config=configs/crema_d.py                                             # trains the generator
    launch.py --config=configs/crema_d.py:expression                                  # another stage, or head_motion
    launch.py --config=configs/crema_d.py --mode=evaluate                             # on nine unseen actors
    launch.py --config=configs/crema_d.py --config.dtype=bfloat16                     # on accelerators

DIR holds VideoFlash/*.flv, or .mp4 files, and AudioWAV/*.wav (input_pipeline/datasets/crema_d/README.md). The clips
take 1.3 to 5 s, most of them about 2.5 s; `head_motion` leaves out those of less than 2 s. `unprojection` is trained
with configs/w300_lp.py. The generator needs VGG19's weights (third_party/vgg19/README.md) or a perceptual loss of
weight 0.

Disk: the films as published; prepared, 10 GB of cached records and 10 GB of TFRecords (5.3 h). Preparation: about 2
core-hours (docs/preparation.md). Training: the paper took less than a day on 8 V100 of 32 GB (its footnote 4).
"""

from ml_collections import ConfigDict

from configs import films


def get_config(argument: str = 'generator') -> ConfigDict:
    """The config; `argument`, STAGE[,ablation=NAME], is what is trained and evaluated."""
    config = films.base('crema_d', argument)
    films.one_reference(config)
    return config
