"""The trained generator adapted to one clip: its settings, where the result lies, and how it did."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from talkinghead_jax import files
from talkinghead_jax.errors import UserError
from talkinghead_jax.stages import published, registry
from talkinghead_jax.synthesis import contact_sheet, holdout
from talkinghead_jax.train import checkpoint, hosts, loop, sharding

PAIRS = 16  # of the contact sheet


def configure(trained: ConfigDict, settings: Mapping[str, Any], steps: int, size: int = 0) -> ConfigDict:
    """The config of a fine-tuning run.

    Args:
      trained: the whole config that the generator was trained with.
      settings: `config.finetune`: what differs from `trained.generator`, in the same tree.
      steps: optimizer steps.
      size: side of the frames, px, where it is not that of training; the networks are convolutional.

    Raises:
      UserError: the networks cannot work at this size; a published network is missing; this is one of several
        processes that train together.
    """
    hosts.check_alone('--finetune_steps')
    config = ConfigDict(trained.to_dict())
    config.generator.update(settings)
    config.generator.steps = steps
    if size:
        config.image_size = size
    try:
        stage = registry.make_stage('generator', config, {'vertices': 1})  # only for its checks
    except UserError as error:
        raise UserError(f'--finetune_size={size}: {error}' if size else str(error)) from error
    published.load(stage)  # what is missing is told before the clip is tracked
    return config


def name_of(record: Mapping[str, Any], digest: str, config: ConfigDict) -> str:
    """CLIP-CHECKPOINT-SIZEpx-STEPS-SETTINGS: a folder name that differs wherever the result might.

    Args:
      record: the clip; its frames and what was tracked in them count.
      digest: of the checkpoint's parameters.
      config: of `configure`.
    """
    clip = hashlib.sha256(b''.join(record['video']))
    for field in ('landmarks', 'pose', 'mesh_vertices'):
        clip.update(np.ascontiguousarray(record[field]).tobytes())
    settings = json.dumps({'generator': config.generator.to_dict(), 'seed': config.seed, 'dtype': config.dtype},
                          sort_keys=True)
    return (f'{clip.hexdigest()[:12]}-{digest}-{config.image_size}px-{config.generator.steps}-'
            f'{hashlib.sha256(settings.encode()).hexdigest()[:8]}')


def adapt(inference: checkpoint.Inference, frozen: Mapping[str, Any], config: ConfigDict,
          axes: Mapping[str, int], make_batches: loop.Batches, folder: str | os.PathLike) -> checkpoint.Inference:
    """Train on from a checkpoint, or take what lies in `folder`.

    Args:
      inference: the trained generator.
      frozen: arrays that the stage reads.
      config: of `configure`.
      axes: of the clip's mesh; see `registry.make_stage`.
      make_batches: first step -> batches of the clip.
      folder: where checkpoints and logs go.
    """
    stage = registry.make_stage('generator', config, axes)
    loop.train(stage, config, {**frozen, **published.load(stage)}, make_batches, folder,
               initial={'params': inference.params, 'model_state': inference.model_state},
               layout=sharding.make_layout(devices=jax.local_devices()[:1]))  # the batch is small
    return dataclasses.replace(checkpoint.load_for_inference(folder, 'generator'), step=config.generator.steps)


def report(score: holdout.Score, drawn: str, first: int, output: pathlib.Path,
           show: Callable[[str], None] = print) -> None:
    """Print the held-out scores; write them and the contact sheet beside `output`, as NAME_heldout.json and .png.

    Args:
      score: of `holdout.score`.
      drawn: the method whose frames the sheet shows.
      first: number, in the clip, of the first held-out frame.
      output: the video.
      show: takes the printed text.
    """
    rows = contact_sheet.table(score.methods)
    caption = f'{len(score.frames)} frames of the source that were held out'
    show(f'{caption}:\n{contact_sheet.text(rows)}')
    chosen = contact_sheet.spread(len(score.frames), PAIRS)
    sheet = contact_sheet.contact_sheet(
        score.pictures[holdout.TRUTH][chosen], score.pictures[drawn][chosen],
        [first + int(frame) for frame in score.frames[chosen]], rows, caption)
    picture = io.BytesIO()
    Image.fromarray(sheet).save(picture, 'PNG')
    stem = output.with_name(f'{output.stem}_heldout')
    files.write_atomically(stem.with_suffix('.png'), picture.getvalue())
    files.write_atomically(stem.with_suffix('.json'), files.to_json(
        {'frames': [first + int(frame) for frame in score.frames], 'methods': score.methods}))
    show(f'contact sheet: {stem.with_suffix(".png")}')
