"""VoxCeleb2 at full size: 256 px, 8 references, the paper's schedule.

    launch.py --config=configs/voxceleb2.py --mode=prepare --config.data.media=DIR    # into runs/voxceleb2/data
    launch.py --config=configs/voxceleb2.py                                           # trains the generator
    launch.py --config=configs/voxceleb2.py:expression                                # another stage, or head_motion
    launch.py --config=configs/voxceleb2.py --mode=evaluate                           # on the test set
    launch.py --config=configs/voxceleb2.py --config.dtype=bfloat16                   # on accelerators

DIR holds dev/mp4/SPEAKER/VIDEO/*.mp4 and test/mp4/, with or without dev/aac/ and test/aac/
(input_pipeline/datasets/voxceleb2/README.md). The generator needs VGG19's weights (third_party/vgg19/README.md) or a
perceptual loss of weight 0; `unprojection` is trained with configs/w300_lp.py.

Disk: 260 GB of films and 75 GB of sound as published; prepared, 4.4 TB of cached records and 4.4 TB of TFRecords
(2,442 h). Preparation: about 1,120 core-hours (docs/preparation.md). Training: the paper took 5 days on 8 V100 of
32 GB (its footnote 4).
"""

from ml_collections import ConfigDict

from configs import films


def get_config(argument: str = 'generator') -> ConfigDict:
    """The config; `argument`, STAGE[,ablation=NAME], is what is trained and evaluated."""
    return films.base('voxceleb2', argument)
