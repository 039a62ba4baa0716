"""LRS3-TED at full size: 256 px, 8 references, the paper's schedule.

    launch.py --config=configs/lrs3_ted.py --mode=prepare --config.data.media=DIR     # into runs/lrs3_ted/data
    launch.py --config=configs/lrs3_ted.py                                            # trains the generator
    launch.py --config=configs/lrs3_ted.py:expression                                 # another stage, or head_motion
    launch.py --config=configs/lrs3_ted.py --mode=evaluate                            # on the test set
    launch.py --config=configs/lrs3_ted.py --config.dtype=bfloat16                    # on accelerators

DIR holds pretrain/, trainval/ and test/, each with TALK/*.mp4 and .txt (input_pipeline/datasets/lrs3_ted/README.md).
The generator needs VGG19's weights (third_party/vgg19/README.md) or a perceptual loss of weight 0; `unprojection` is
trained with configs/w300_lp.py.

Disk: the films as published; prepared, 0.8 TB of cached records and 0.8 TB of TFRecords (438 h). Preparation: about
200 core-hours (docs/preparation.md). Training: the paper took 5 days on 8 V100 of 32 GB (its footnote 4).
"""

from ml_collections import ConfigDict

from configs import films


def get_config(argument: str = 'generator') -> ConfigDict:
    """The config; `argument`, STAGE[,ablation=NAME], is what is trained and evaluated."""
    return films.base('lrs3_ted', argument)
