"""VoxCeleb2 at full size: 256 px, 8 references, the paper's schedule.

There is no builder of the dataset voxceleb2 yet. What runs today are videos in a folder of your own, in the layout of
input_pipeline/datasets/folder_of_clips/README.md; each command needs the two flags of the data:

    D="--config.data.dataset=folder_of_clips --config.data.media=DIR --workdir=runs/voxceleb2"
    launch.py --config=configs/voxceleb2.py $D --mode=prepare                       # into runs/voxceleb2/data
    launch.py --config=configs/voxceleb2.py $D                                      # trains the generator
    launch.py --config=configs/voxceleb2.py:expression $D                           # another stage, or head_motion
    launch.py --config=configs/voxceleb2.py $D --config.dtype=bfloat16              # on accelerators

The generator needs VGG19's weights (third_party/vgg19/README.md) or a perceptual loss of weight 0, `--mode=evaluate`
needs clips in DIR/test, and `unprojection` needs position maps, which such a folder has not.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = 'generator') -> ConfigDict:
    """The config; `argument`, STAGE[,ablation=NAME], is what is trained and evaluated."""
    config = common.base('voxceleb2')
    config.data.dataset = 'voxceleb2'
    common.select(config, argument)
    return config
