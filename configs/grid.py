"""GRID at full size: 256 px and, as in the original, one reference.

    launch.py --config=configs/grid.py --mode=prepare --config.data.media=DIR         # into runs/grid/data
    launch.py --config=configs/grid.py                                                # trains the generator
    launch.py --config=configs/grid.py:expression                                     # another stage, or head_motion
    launch.py --config=configs/grid.py --mode=evaluate                                # on four unseen speakers
    launch.py --config=configs/grid.py --config.dtype=bfloat16                        # on accelerators

DIR holds a folder a speaker, s1/video/mpg_6000/*.mpg or s1/*.mpg (input_pipeline/datasets/grid/README.md). A clip has
75 frames: 30 are the reference part and 45 are predicted. The speakers hardly move their heads, so that `head_motion`
learns little here; `unprojection` is trained with configs/w300_lp.py. The generator needs VGG19's weights
(third_party/vgg19/README.md) or a perceptual loss of weight 0.

Disk: 80 GB of films in high quality, or 16 GB, as published; prepared, 50 GB of cached records and 50 GB of
TFRecords (27.5 h). Preparation: about 13 core-hours (docs/preparation.md). Training: the paper took less than a day
on 8 V100 of 32 GB (its footnote 4).
"""

from ml_collections import ConfigDict

from configs import films


def get_config(argument: str = 'generator') -> ConfigDict:
    """The config; `argument`, STAGE[,ablation=NAME], is what is trained and evaluated."""
    config = films.base('grid', argument)
    films.one_reference(config, frames_left=45)
    return config
