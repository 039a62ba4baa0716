"""Parts that all configs share: full-size defaults, one function a stage.

A config is an `ml_collections.ConfigDict`. `config.stages` lists what `--mode=train` trains, in order;
`config.<stage>` holds everything of one stage: `steps`, `batch_size`, `optim`, `model`, `losses`, `data`.
"""

from ml_collections import ConfigDict

STAGES = ('unprojection', 'expression', 'head_motion', 'generator')


def base(name: str) -> ConfigDict:
    """Everything that does not belong to one stage."""
    config = ConfigDict()
    config.name = name
    config.seed = 0
    config.dtype = 'float32'  # of convolutions and matrix products; 'bfloat16' on accelerators
    config.image_size = 256
    config.stages = STAGES
    config.data = ConfigDict({
        'dataset': '',  # TFDS name
        'directory': '',  # where prepared data lie; '' means WORKDIR/data
        'workers': 0,  # preparation processes; 0 means one a core
    })
    config.log = ConfigDict({'every_steps': 100, 'checkpoint_every_steps': 1000, 'keep': 3})
    config.parallel = ConfigDict({'mode': 'sharded', 'fsdp': 1})
    config.expression = expression()
    config.head_motion = head_motion()
    config.unprojection = unprojection()
    config.generator = generator()
    return config


def expression() -> ConfigDict:
    """Psi (paper, Sec. 3.2)."""
    return ConfigDict({
        'steps': 100_000,
        'batch_size': 64,
        'optim': {'learning_rate': 2e-4, 'b1': 0.9, 'b2': 0.999, 'constant_share': 0.5},
        'model': {'encoder': 'log_mel', 'width': 64, 'components': 20},
        'losses': {},
        'data': {'frames': 16, 'noise_probability': 0.5},
    })


def head_motion() -> ConfigDict:
    """Phi (paper, Sec. 3.3)."""
    return ConfigDict({
        'steps': 100_000,
        'batch_size': 64,
        'optim': {'learning_rate': 3e-4, 'b1': 0.9, 'b2': 0.999, 'constant_share': 0.5},
        'model': {'width': 64},
        'losses': {},
        'data': {'context': 64, 'frames': 64},
    })


def unprojection() -> ConfigDict:
    """The U-net from an image to a UV position map (paper, Sec. 4.1)."""
    return ConfigDict({
        'steps': 200_000,
        'batch_size': 16,
        'optim': {'learning_rate': 1e-4, 'b1': 0.9, 'b2': 0.999, 'constant_share': 0.5},
        'model': {'width': 16},
        'losses': {},
        'data': {},
    })


def generator() -> ConfigDict:
    """Theta (paper, Sec. 3.4 and 4)."""
    return ConfigDict({
        'steps': 500_000,
        'batch_size': 8,
        'optim': {'learning_rate': 2e-4, 'b1': 0.5, 'b2': 0.999, 'constant_share': 0.5},
        'ema_decay': 0.999,
        'model': {'width': 32, 'max_width': 1024, 'levels': 6, 'ablation': ''},
        'losses': {},
        'data': {'references': 8},
    })
