"""LRW at full size: 256 px and, as in the paper's comparison, one reference (Table 1).

    launch.py --config=configs/lrw.py --mode=prepare --config.data.media=DIR          # into runs/lrw/data
    launch.py --config=configs/lrw.py                                                 # trains the generator
    launch.py --config=configs/lrw.py:expression                                      # the other stage
    launch.py --config=configs/lrw.py --mode=evaluate                                 # on the test set
    launch.py --config=configs/lrw.py --config.dtype=bfloat16                         # on accelerators

DIR holds lipread_mp4/WORD/{train,val,test}/*.mp4 (input_pipeline/datasets/lrw/README.md). A clip has 29 frames: 11
are the reference part and 18 are predicted. That is too short for `head_motion`; `unprojection` is trained with
configs/w300_lp.py. The generator needs VGG19's weights (third_party/vgg19/README.md) or a perceptual loss of weight
0.

Disk: the films as published; prepared, 0.3 TB of cached records and 0.3 TB of TFRecords (174 h). Preparation: about
80 core-hours (docs/preparation.md). Training: the paper gives no time for LRW; it trained on 8 V100 of 32 GB (its
footnote 4).
"""

from ml_collections import ConfigDict

from configs import films


def get_config(argument: str = 'generator') -> ConfigDict:
    """The config; `argument`, STAGE[,ablation=NAME], is what is trained and evaluated."""
    config = films.base('lrw', argument, ('expression', 'generator'))
    films.one_reference(config, frames_left=18)
    return config
