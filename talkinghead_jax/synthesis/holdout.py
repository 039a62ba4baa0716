"""How well a generator draws frames of a clip that it was not tuned on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.metrics import image
from talkinghead_jax.synthesis import talking_head
from talkinghead_jax.synthesis.network import Network

HELD_OUT = 0.25  # share of a clip, at its end, that fine-tuning never sees


def split(record: Mapping[str, Any], share: float = HELD_OUT) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cut a clip record in time: what may be trained on, and the last `share` of its frames.

    The key frame carries the mesh, so it stays in the first part; in a clip of three seconds or less that may
    leave fewer frames, even none, for the second part. Of the second part use the frames only: its key frame and
    closed-mouth frame are numbers of the whole clip.
    """
    border = max(round((1 - share) * len(record['pose'])), int(record['key_frame']) + 1)
    timed = ('video', 'audio', 'landmarks', 'pose', 'detected')
    seen = {**record, **{name: record[name][:border] for name in timed}}
    opening = face.mouth_opening(rigid.frontalize(seen['landmarks'], seen['pose']))
    seen['closed_mouth_frame'] = np.int32(opening.argmin())
    return seen, {**record, **{name: record[name][border:] for name in timed}}


def score(theta: Network, seen: Mapping[str, Any], unseen: Mapping[str, Any],
          decode: talking_head.Decode) -> dict[str, dict[str, float]]:
    """SSIM and PSNR of generated frames beside the copied reference that Eq. 2 matches.

    Args:
      theta: the generator.
      seen: part of a clip record that references, key frame and mesh come from.
      unseen: part whose landmarks and poses drive, and whose frames are the truth.
      decode: JPEG -> (S, S, 3) uint8 RGB at the model's size.

    Returns:
      {'model' | 'matched_reference': {'ssim', 'psnr'}}, means over the frames where a face was found.

    Raises:
      ValueError: there is no such frame.
    """
    found = np.flatnonzero(unseen['detected'])
    if not len(found):
        raise ValueError('no held-out frame shows a face')
    frontal = rigid.frontalize(unseen['landmarks'], unseen['pose'])
    drawn = list(talking_head.generate_frames(theta, seen, frontal, unseen['pose'], decode))
    truth = np.stack([decode(unseen['video'][i]) for i in found]) / np.float32(127.5) - 1
    methods = {'model': 'image', 'matched_reference': 'matched'}
    pictures = {method: np.stack([drawn[i][field] for i in found]) / np.float32(127.5) - 1
                for method, field in methods.items()}
    return {method: {'ssim': float(np.mean(image.ssim(of, truth))), 'psnr': float(np.mean(image.psnr(of, truth)))}
            for method, of in pictures.items()}
