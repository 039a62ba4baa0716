"""A small table of results of every kind, made by hand: for tests of what reads one."""

import dataclasses
import hashlib

import numpy as np

from talkinghead_jax.protocols.recipes import DETECTOR, RECIPES
from talkinghead_jax.protocols.results import TRUTH, Results

FRAME_METRICS = ('lmd@mean20-mediapipe', 'csim_gt@mobilefacenet', 'ssim@authors', 'psnr@rgb')
CLIP_METRICS = ('rotation_deg@driving', 'beat_gain@driving')
POOLED, MISSING = 'fid@pytorch-fid', 'lse_c@syncnet'
PICTURE = 'prepared face crop (JPEG 95), 64 px'
LABELS = {'true': 'Ours (true pose)', 'phi': 'Ours (pose of Φ)', 'reference': 'Reference frame', TRUTH: 'True video'}
CENTRES = {'lmd@mean20-mediapipe': 3.0, 'csim_gt@mobilefacenet': 0.5, 'ssim@authors': 0.7, 'psnr@rgb': 20.0,
           'rotation_deg@driving': 5.0, 'beat_gain@driving': 0.1}


def make_results(seed: int = 0, **changes) -> Results:
    """Three rows and the truth, six clips of three speakers, metrics of every level; fields replaced by `changes`.

    'phi' is worse than 'true' in each metric but 'beat_gain@driving'; clip 1 of 'phi' has no LMD. The truth has the
    metrics that need no generated frame only. No frame is in the last bin of yaw. The metric of SyncNet was not
    computed.
    """
    rng = np.random.default_rng(seed)
    frames = np.array([50, 60, 75, 80, 90, 100])
    clips = {'clip_id': np.array([f'id{i // 2}/clip_{i}' for i in range(6)]),
             'speaker_id': np.array([f'id{i // 2}' for i in range(6)]), 'frames': frames}
    by_yaw = {row: {metric: _binned(rng, metric, 1 + 0.1 * place, frames) for metric in FRAME_METRICS}
              for place, row in enumerate(('true', 'phi', 'reference'))}
    by_yaw['phi']['lmd@mean20-mediapipe'][1] = 0
    per_clip = {row: {metric: _means(binned) for metric, binned in of.items()} for row, of in by_yaw.items()}
    counted = {row: {metric: binned[..., 1].sum(axis=1).astype(int) for metric, binned in of.items()}
               for row, of in by_yaw.items()}
    for place, of in enumerate(per_clip.values()):
        of.update({metric: CENTRES[metric] * (1 + 0.1 * place) + rng.normal(0, 0.01, 6) for metric in CLIP_METRICS})
    per_clip[TRUTH] = {'beat_gain@driving': 0.2 + rng.normal(0, 0.01, 6)}
    pooled = {row: {POOLED: 60.0 + 20 * place} for place, row in enumerate(per_clip) if row != TRUTH}
    results = Results(
        protocol='audio_driven', dataset='voxceleb2', labels=dict(LABELS), baselines=('reference', TRUTH),
        clips=clips, per_clip=per_clip, by_yaw=by_yaw, pooled=pooled, counted=counted,
        recipes={metric: recipe(metric) for metric in (*FRAME_METRICS, *CLIP_METRICS, POOLED)},
        notes={MISSING: 'not computed: needs syncnet_v2.model', POOLED: 'biased upwards: only 455 frames'},
        row_notes={'reference': 'the key frame, repeated'},
        facts={'checkpoint': 'runs/demo/generator at step 8000', 'frames': '455'},
        videos={row: {clip: f'videos/{row}/{clip}.mp4' for clip in clips['clip_id'].tolist()} for row in LABELS})
    return dataclasses.replace(results, **changes)


def recipe(metric: str) -> dict:
    """What an evaluation says of a metric: the recipe's fields, the pictures, and hashes of weights (made up)."""
    needs = RECIPES[metric].needs
    return {**dataclasses.asdict(RECIPES[metric]), 'picture': PICTURE,
            'weights': {name: hashlib.sha256(name.encode()).hexdigest() for name in needs if name != DETECTOR}}


def _binned(rng: np.random.Generator, metric: str, factor: float, frames: np.ndarray) -> np.ndarray:
    """(6, bins, 2) sum and number of frames' values about the metric's centre: lower where lower is better."""
    scale = factor if RECIPES[metric].better == 'lower' else 1 / factor
    numbers = np.stack([frames - 30, np.full(6, 20), np.full(6, 10), np.zeros(6, int)], axis=1)
    means = CENTRES[metric] * scale * (1 + rng.normal(0, 0.01, numbers.shape))
    return np.stack([means * numbers, numbers], axis=-1).astype(np.float64)


def _means(binned: np.ndarray) -> np.ndarray:
    total = binned.sum(axis=1)
    with np.errstate(invalid='ignore'):
        return total[:, 0] / total[:, 1]
