"""What a user asks for with `--mode=generate`: its flags, whether they go together, whether it is done already."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import flags

from talkinghead_jax.errors import UserError


def define_flags() -> None:
    """Tell absl the flags of `--mode=generate`."""
    flags.DEFINE_string('source', '', 'generate: video (1 s or more) or picture of the person to animate')
    flags.DEFINE_string('audio', '', 'generate: the speech, any audio or video file')
    flags.DEFINE_string('driving', '', 'generate: a video whose landmarks drive the face (Fig. 9)')
    flags.DEFINE_enum('pose', None, ['rhythmic', 'reference', 'still'],
                      'generate: head motion: predicted (default), taken from --ref_pose, or none')
    flags.DEFINE_string('ref_pose', '', 'generate: video whose head motion is taken over')
    flags.DEFINE_string('output', '', 'generate: the video to write; by default WORKDIR/out.mp4')
    flags.DEFINE_integer('finetune_steps', 0,
                         'generate: first adapt the generator to the source clip, with its training settings', 0)
    flags.DEFINE_integer('finetune_size', 0,
                         'generate: side of the frames while and after adapting, px; by default that of training', 0)
    flags.DEFINE_integer('references', None,
                         'generate: K, how many frames the generator sees of the source; by default as in training',
                         1)
    flags.DEFINE_float('expression_scale', 1.0, 'generate: strength of the expression', 0.0)
    flags.DEFINE_float('pose_scale', 1.0, 'generate: strength of the head motion', 0.0)
    flags.DEFINE_float('blink_rate', 0.0, 'generate: random blinks a minute, such as 20', 0.0)
    flags.DEFINE_integer('blink_seed', 0, 'generate: another number gives other blinks', 0)
    flags.DEFINE_enum('preprocess', 'crop', ['crop', 'full'],
                      'generate: write the face crop, or paste it back into the whole picture')


def check(inputs: Mapping[str, str], pose: str | None = None, preprocess: str = 'crop', output: str = '',
          finetune_steps: int = 0, finetune_size: int = 0) -> None:
    """Refuse flags that contradict each other, or need one that is missing, before any long work.

    Args:
      inputs: flag -> file, of those of 'source', 'audio', 'driving' and 'ref_pose' that were given.
      pose: value of --pose; None where it was left open.
      preprocess: value of --preprocess.
      output: value of --output; '' where it was left open.
      finetune_steps: value of --finetune_steps.
      finetune_size: value of --finetune_size; 0 where it was left open.

    Raises:
      UserError: names the flag that is wrong.
    """
    for name, path in inputs.items():
        if not pathlib.Path(path).is_file():
            raise UserError(f'--{name}={path}: no such file; want a video, picture or sound')
    if inputs and 'source' not in inputs:
        raise UserError(f'--{next(iter(inputs))} needs --source, the person to animate; it is missing')
    if 'source' in inputs and not ({'audio', 'driving'} & set(inputs)):
        raise UserError('--source needs --audio, the speech, or --driving, a video that drives the face')
    if {'audio', 'driving'} <= set(inputs):
        raise UserError('--audio and --driving exclude each other; the sound of --driving is used')
    if 'driving' in inputs and (pose or 'ref_pose' in inputs):
        raise UserError('--driving brings its own head pose; leave --pose and --ref_pose out')
    if pose == 'reference' and 'ref_pose' not in inputs:
        raise UserError('--pose=reference takes its head motion from a clip; want --ref_pose=CLIP')
    if preprocess == 'full' and 'source' not in inputs:
        raise UserError('--preprocess=full pastes into the picture of --source, which is missing')
    if finetune_size and not finetune_steps:
        raise UserError(f'--finetune_size={finetune_size} needs --finetune_steps, how long to tune; it is missing')
    if output and pathlib.Path(output).suffix not in ('.mp4', '.mov', '.mkv'):
        raise UserError(f'--output={output}: want a name that ends in .mp4, .mov or .mkv')


def concat_path(output: str | os.PathLike) -> pathlib.Path:
    """Where the comparison beside the video `output` goes: NAME_concat.SUFFIX."""
    output = pathlib.Path(output)
    return output.with_name(f'{output.stem}_concat{output.suffix}')


def is_current(output: str | os.PathLike, record: Mapping[str, Any]) -> bool:
    """Whether `output` was made from just the inputs, settings and checkpoints of a provenance `record`."""
    output = pathlib.Path(output)
    sidecar = output.with_suffix('.provenance.json')
    there = all(path.is_file() for path in (output, concat_path(output), sidecar))
    return there and json.loads(sidecar.read_text()) == json.loads(json.dumps(record))
