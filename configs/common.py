"""Parts that all configs share: full-size defaults, one function a stage.

A config is an `ml_collections.ConfigDict`. `config.stages` lists what `--mode=train` trains, in order;
`config.<stage>` holds everything of one stage: `steps`, `batch_size`, `optim`, `model`, `losses`, `data`.
"""

from ml_collections import ConfigDict

STAGES = ('unprojection', 'expression', 'head_motion', 'generator')
ABLATIONS = ('no_3d', 'no_hybrid', 'no_warp', 'matting')  # of the generator (paper, Fig. 10a)


def base(name: str) -> ConfigDict:
    """Everything that does not belong to one stage."""
    config = ConfigDict()
    config.name = name
    config.seed = 0
    config.dtype = 'float32'  # of convolutions and matrix products; 'bfloat16' on accelerators
    config.image_size = 256
    config.stages = STAGES
    config.start = ''  # a workdir whose checkpoints training starts from; '' means random weights
    config.data = ConfigDict({
        'dataset': '',  # TFDS name
        'directory': '',  # where prepared data lie; '' means WORKDIR/data
        'workers': 0,  # preparation processes; 0 means one a core
        'loader_workers': 0,  # processes that make training batches; 0 means threads of the training process
        'media': '',  # the dataset as its publisher ships it; only --mode=prepare reads it
        'landmarker': '',  # face_landmarker.task; '' looks for it
        'detector': 'mediapipe',  # or prnet: landmarks and mesh from a position map
        'prnet': '',  # folder of PRNet's converted weights and its index files
        'bfm': '',  # folder of the Basel Face Model, BFM.mat and BFM_UV.mat, for w300_lp; only prepare reads it
        'crop': 'static',  # or smoothed: the square follows the head, whose translation then means little
        'min_frames': 0,  # shorter clips go to quarantine; 0 means the dataset's own
        'max_quarantine': 1.0,  # share of the clips; where more cannot be used, preparation ends with an error
        'beam': '',  # options of an Apache Beam pipeline that does the work of `workers`: '--runner=FlinkRunner ..'
        'max_missing': 0.5,  # share of a clip's frames without a face, beyond which it goes to quarantine
    })
    config.log = ConfigDict({
        'every_steps': 100,
        'checkpoint_every_steps': 1000,
        'keep': 3,  # checkpoints: the last ones
        'keep_every_steps': 0,  # and, for good, what is saved at multiples of it; 0 is off
    })
    config.parallel = ConfigDict({'mode': 'sharded', 'fsdp': 1})
    config.study = ConfigDict({  # of --mode=study
        'variants': ('', *ABLATIONS),  # '' is the full model
        'seeds': (0, 1, 2),  # of initial weights and draws; the data come in the order of config.seed
        'steps': 0,  # of the generator, in each run; 0 means generator.steps
    })
    config.evaluation = evaluation()
    config.finetune = finetune()
    config.expression = expression()
    config.head_motion = head_motion()
    config.unprojection = unprojection()
    config.generator = generator()
    return config


def select(config: ConfigDict, argument: str) -> None:
    """Restrict `config` to what `argument`, STAGE[,ablation=NAME], asks for; ValueError where it is unknown."""
    stage, *options = argument.split(',')
    if stage not in STAGES:
        raise ValueError(f'unknown stage {stage!r}; stages are {", ".join(STAGES)}')
    config.stages = (stage,)
    for option in options:
        name, _, value = option.partition('=')
        if (stage, name) != ('generator', 'ablation'):
            raise ValueError(f'unknown option {option!r} of stage {stage}; the only one is generator,ablation=NAME')
        if value not in ABLATIONS:
            raise ValueError(f'unknown ablation {value!r}; ablations are {", ".join(ABLATIONS)}')
        config.generator.model.ablation = value


def expression() -> ConfigDict:
    """Psi (paper, Sec. 3.2)."""
    return ConfigDict({
        'steps': 100_000,
        'batch_size': 64,
        'accumulate': 1,  # microbatches that a batch is computed in: less memory, more time (train/step.py)
        'optim': {'learning_rate': 2e-4, 'b1': 0.9, 'b2': 0.999, 'constant_share': 0.5},
        'model': {'encoder': 'log_mel', 'width': 64, 'components': 20},
        'losses': {'coefficient': 1.0, 'mouth': 1.0, 'velocity': 1.0},
        'data': {
            'frames': 16,  # consecutive frames in training
            'evaluation_frames': 96,  # after the reference part; 0 means as in training
            'noise_probability': 0.9,  # of an excerpt, in training
            # Sound files of any kind, length and rate, one more kind of noise beside white, pink and babble (the kind
            # is drawn first, then a file); '' means built-in noise only.
            'noise_folder': '',
            'silence_probability': 0.05,  # of an excerpt of digital silence with the face at rest, in training
            'gain': True,  # random loudness, -12 to 6 dB of the level that all speech is brought to
            'evaluation_noise': 'babble',  # white, pink or babble; '' evaluates without noise only
            'evaluation_ratio': 6,  # dB of speech over noise
            'flip': True,  # mirror half of the faces
        },
    })


def head_motion() -> ConfigDict:
    """Phi (paper, Sec. 3.3)."""
    return ConfigDict({
        'steps': 100_000,
        'batch_size': 64,
        'accumulate': 1,  # microbatches that a batch is computed in: less memory, more time (train/step.py)
        'optim': {'learning_rate': 3e-4, 'b1': 0.9, 'b2': 0.999, 'constant_share': 0.5},
        'model': {'width': 64, 'hidden': 16, 'rank': 16, 'seam_seconds': 1.0},
        'losses': {'position': 1.0, 'velocity': 4.0, 'amplitude': 0.3, 'speed': 0.1, 'adversarial': 0.0},
        'data': {
            'context': 96,  # frames of the reference at most, in training; in use it has 64
            'least_context': 32,
            'frames': 96,  # to predict at most, in training
            'least_frames': 16,
            'evaluation_frames': 96,  # after the reference part; 0 means as in training
            'min_frames': 50,  # shorter clips are left out
            'flip': True,
        },
    })


def unprojection() -> ConfigDict:
    """The U-net from an image to a UV position map (paper, Sec. 4.1)."""
    return ConfigDict({
        'steps': 200_000,
        'batch_size': 16,
        'accumulate': 1,  # microbatches that a batch is computed in: less memory, more time (train/step.py)
        'optim': {'learning_rate': 1e-4, 'b1': 0.9, 'b2': 0.999, 'constant_share': 0.5},
        'model': {'width': 16, 'residual': False, 'hidden': 128, 'momentum': 0.999},
        'losses': {'weighted': True},  # more at key points, eyes, nose and mouth, as in PRNet; else all alike
        'data': {'shift': 12.0, 'scale': 0.1, 'jitter': 0.05},  # crop px, share of the size, share of the colours
    })


def generator() -> ConfigDict:
    """Theta (paper, Sec. 3.4 and 4)."""
    return ConfigDict({
        'steps': 500_000,
        'batch_size': 8,
        'accumulate': 1,  # microbatches that a batch is computed in: less memory, more time (train/step.py)
        'optim': {'learning_rate': 2e-4, 'b1': 0.5, 'b2': 0.999, 'constant_share': 0.5},
        'ema_decay': 0.999,
        'worse_match_probability': 0.5,  # in training: of a reference that Eq. 2 would not choose
        'model': {
            'width': 32, 'max_width': 1024, 'levels': 6, 'flow_downs': 3, 'flow_blocks': 6,
            'discriminator': {'width': 32, 'max_width': 512, 'layers': 4, 'scales': 2},
            'ablation': '',  # no_3d, no_hybrid, no_warp or matting (Fig. 10a)
            'blank_expression_regions': True,  # else the mouth of the matched reference is copied
            'literal_matcher': False,  # Eq. 2 on raw h instead of h over the dataset's deviation
            'remat': '',  # gradient checkpointing: 'light' or 'full' cost time and save memory (nn/remat.py)
        },
        'losses': {  # a weight of 0 skips the cost
            'adversarial': {'weight': 1.0},
            'feature_matching': {'weight': 10.0},
            'perceptual': {'weight': 10.0},
            'flow': {'weight': 10.0, 'warp': 1.0},  # L1 of warped images against flows in px of the image
            'reconstruction': {'weight': 0.0, 'ssim_share': 0.0, 'expression': 0.0},  # extra L1 in eye, mouth boxes
        },
        'data': {
            'references': 8,
            'targets_per_clip': 4,  # frames of each clip in evaluation
            'flip': True,
            'jitter': 0.05,  # share of the colours' range; 0 is off
        },
    })


def evaluation() -> ConfigDict:
    """Whole videos of held-out clips, in --mode=evaluate (paper, Tables 1 and 2)."""
    return ConfigDict({
        'protocols': ('audio_driven', 'landmark_driven'),  # () leaves them out
        'poses': ('true', 'phi', 'still'),  # rows of audio_driven: where the head motion comes from
        'references': (1, 8, 32),  # rows of landmark_driven: K
        'split': 'test',
        'clips': 0,  # so many, spread evenly over the split; 0 means all
        'frames': 0,  # of each clip, after its reference part, at most; 0 means all
        'batch_size': 8,  # frames at a time, on all devices of a process together
        'metrics': (),  # names, as in the table; () means all whose weights are on this machine
        'shown': 3,  # videos that are kept of each method's best clips, and of its worst
        'grid': 0,  # clips in a picture of the same moments by every method (Fig. 7)
    })


def finetune() -> ConfigDict:
    """What differs from `generator` while it is adapted to one clip (--finetune_steps), in the same tree."""
    return ConfigDict({
        'batch_size': 2,
        'accumulate': 1,
        'optim': {'learning_rate': 2e-4},
        'worse_match_probability': 0.2,
        'model': {'remat': ''},
        'data': {'gap': 8},  # frames between target and references, which then come from the whole clip
    })
