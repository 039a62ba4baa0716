"""The demo: everything at a size that two CPU cores train in minutes, on data that the project makes itself.

    launch.py --config=configs/demo.py --mode=prepare,train,evaluate,generate --workdir=demo

An argument after a colon chooses one stage: `configs/demo.py:generator`, or an ablation of the generator (paper,
Fig. 10a): `configs/demo.py:generator,ablation=no_3d`.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = '') -> ConfigDict:
    """The demo's config; `argument` is '' or STAGE[,ablation=NAME], which restricts everything to one stage."""
    config = common.base('demo')
    config.image_size = 64
    config.data.dataset = 'synthetic_talking_heads'
    config.synthetic = ConfigDict({
        'identities': {'train': 40, 'validation': 4, 'test': 8},
        'clips': 3,  # an identity
        'frames': 160,  # a clip
        'position_maps': 1500,
        'image_size': 64,
    })
    config.log.every_steps = 20
    config.log.checkpoint_every_steps = 200
    _expression(config.expression)
    _head_motion(config.head_motion)
    _unprojection(config.unprojection)
    _generator(config.generator)
    _finetune(config.finetune)
    config.study.steps = 400
    config.evaluation.update({'references': (1, 4), 'clips': 4, 'frames': 24, 'batch_size': 4, 'shown': 1})
    if argument:
        common.select(config, argument)
    return config


def _expression(stage: ConfigDict) -> None:
    stage.steps = 3000
    stage.batch_size = 4
    stage.optim.learning_rate = 2e-3
    stage.model.width = 32
    stage.data.frames = 32
    stage.data.gain = False  # in so few steps it costs a fifth of the accuracy under noise


def _head_motion(stage: ConfigDict) -> None:
    stage.steps = 900
    stage.batch_size = 4
    stage.optim.learning_rate = 2e-3
    stage.model.width = 32


def _unprojection(stage: ConfigDict) -> None:
    stage.steps = 1000
    stage.batch_size = 4
    stage.optim.learning_rate = 1.2e-3
    stage.model.update({'width': 12, 'residual': True, 'momentum': 0.0})
    stage.data.update({'shift': 4.0, 'scale': 0.03})


def _generator(stage: ConfigDict) -> None:
    stage.steps = 600
    stage.batch_size = 4
    stage.optim.update({'learning_rate': 4e-3, 'b1': 0.9})
    stage.ema_decay = 0.99
    stage.worse_match_probability = 0.2
    stage.model.update({'width': 8, 'max_width': 32, 'levels': 4, 'flow_blocks': 2})
    stage.model.discriminator.update({'width': 8, 'max_width': 32, 'layers': 2})
    stage.losses.adversarial.weight = 0.05
    stage.losses.feature_matching.weight = 0.25
    stage.losses.perceptual.weight = 0.0
    stage.losses.flow.update({'weight': 0.2, 'warp': 20.0})
    # Without VGG, in the place of the perceptual term; not in the paper's Eq. 8, and SSIM is also a metric here.
    stage.losses.reconstruction.update({'weight': 10.0, 'ssim_share': 0.3, 'expression': 10.0})
    stage.data.references = 4


def _finetune(settings: ConfigDict) -> None:
    # Some hundred steps are too few for a discriminator; without it there is time for more of them.
    settings.losses = ConfigDict({'adversarial': {'weight': 0.0}, 'feature_matching': {'weight': 0.0}})
    settings.optim.learning_rate = 2e-3
