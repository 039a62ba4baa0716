"""What the configs of the published datasets of films share."""

from ml_collections import ConfigDict

from configs import common

STAGES = tuple(stage for stage in common.STAGES if stage != 'unprojection')


def base(dataset: str, argument: str, stages: tuple[str, ...] = STAGES) -> ConfigDict:
    """The full-size config of a dataset.

    Args:
      dataset: its TFDS name.
      argument: STAGE[,ablation=NAME], what is trained and evaluated.
      stages: what can be trained on it.

    Raises:
      ValueError: the argument is unknown, or asks for another stage.
    """
    config = common.base(dataset)
    config.data.dataset = dataset
    common.select(config, argument)
    for stage in config.stages:
        if stage == 'unprojection':
            raise ValueError(f'{dataset} holds no position maps for stage unprojection; train it with '
                             'configs/w300_lp.py')
        if stage not in stages:
            raise ValueError(f'stage {stage} cannot be trained on {dataset}; its stages are {", ".join(stages)}')
    return config


def one_reference(config: ConfigDict, frames_left: int = 0) -> None:
    """The paper's protocol for short clips: K = 1, the key frame.

    Args:
      config: which is changed.
      frames_left: how many of a clip's frames come after the reference part, where all clips have the same length;
        so many are evaluated, instead of a longer stretch that would be padding. 0 leaves that as it is.
    """
    config.generator.data.references = 1
    if frames_left:
        config.expression.data.evaluation_frames = frames_left
        config.head_motion.data.evaluation_frames = frames_left
