"""Stage 'head_motion': Phi (paper, Sec. 3.3)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from talkinghead_jax import specs
from talkinghead_jax.losses import motion as losses
from talkinghead_jax.metrics import motion as metrics
from talkinghead_jax.models.head_motion import HeadMotionNet
from talkinghead_jax.nn.optim import make_optimizer
from talkinghead_jax.nn.temporal import masked_mean
from talkinghead_jax.stages.base import Arrays, PerPlayer, Player, Stage

FROZEN = ('pose_mean', 'pose_deviation')


def make(config: ConfigDict, dataset_axes: Mapping[str, int]) -> Stage:
    """Build the stage; `dataset_axes` is not needed."""
    own = config.head_motion
    net = HeadMotionNet(own.model.width, own.model.hidden, own.model.rank, own.model.seam_seconds, config.dtype)
    weights = own.losses.to_dict()
    spec = specs.head_motion_batch(own.batch_size, own.data.context, own.data.frames)

    def init(key: jax.Array) -> tuple[PerPlayer, PerPlayer]:
        chunks = jnp.zeros((1, 4, specs.CHUNK), jnp.int16)
        variables = net.init(key, jnp.zeros((1, 4, 6)), chunks, jnp.ones((1, 4), bool), chunks)
        return {'net': variables['params']}, {'net': {}}

    def apply(params: PerPlayer, frozen: Arrays, batch: Arrays) -> jax.Array:
        context = _normalise(batch['context_pose'], frozen) * batch['context_mask'][..., None]
        return net.apply({'params': params['net']}, context, batch['context_audio'], batch['context_mask'],
                         batch['audio'])

    def predict(params: PerPlayer, model_state: PerPlayer, frozen: Arrays, batch: Arrays) -> Arrays:
        curve = apply(params, frozen, batch)
        return {'pose': curve * frozen['pose_deviation'][None, None] + frozen['pose_mean'][None, None]}

    def compute_losses(params: PerPlayer, model_state: PerPlayer, frozen: Arrays, batch: Arrays,
                       keys: jax.Array) -> tuple[Arrays, tuple[PerPlayer, Arrays]]:
        predicted, true = apply(params, frozen, batch), _normalise(batch['pose'], frozen)
        mask, clips = batch['frame_mask'] & batch['mask'][:, None], batch['mask']
        terms = {
            'position': losses.position_error(predicted, true, mask),
            'velocity': losses.velocity_error(predicted, true, mask),
            'amplitude': losses.amplitude_error(predicted, true, mask, clips),
            'speed': losses.speed_error(predicted, true, mask, clips),
        }
        total = sum(weights[name] * terms[name] for name in weights)
        return {'net': total}, (model_state, terms)

    def compute_metrics(outputs: Arrays, batch: Arrays, frozen: Arrays) -> Arrays:
        mask = batch['frame_mask']
        pair = outputs['pose'], batch['pose'], mask
        curves = *(_normalise(pose, frozen) for pose in pair[:2]), mask
        context = _normalise(batch['context_pose'], frozen)
        return {
            'rotation_deg': metrics.rotation_error(*pair),
            'translation_px': metrics.translation_error(*pair),
            'pose_error': metrics.pose_error(*curves),
            'amplitude_ratio': metrics.amplitude_ratio(*curves),
            'amplitude_error': metrics.amplitude_error(*curves),
            'velocity_ratio': metrics.velocity_ratio(*curves),
            'correlation': metrics.curve_correlation(*curves),
            'seam_jump': metrics.seam_jump(context, curves[0], batch['context_mask']),
        }

    def baselines(batch: Arrays, frozen: Arrays) -> dict[str, Arrays]:
        pose, shape = batch['context_pose'], batch['pose'].shape
        mean = masked_mean(pose, batch['context_mask'], axis=1)
        return {
            'hold_last': {'pose': jnp.broadcast_to(pose[:, -1:], shape)},
            'reference_mean': {'pose': jnp.broadcast_to(mean[:, None], shape)},
        }

    return Stage('head_motion', (Player('net', make_optimizer(own.optim, own.steps)),), spec, init, compute_losses,
                 predict, compute_metrics, baselines, FROZEN)


def _normalise(pose: jax.Array, frozen: Arrays) -> jax.Array:
    return (pose - frozen['pose_mean'][None, None]) / frozen['pose_deviation'][None, None]
