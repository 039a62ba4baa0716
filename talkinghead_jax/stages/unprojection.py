"""Stage 'unprojection': the network that lifts a picture to a 3-D mesh (paper, Sec. 4.1)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from talkinghead_jax import specs
from talkinghead_jax.geometry import face
from talkinghead_jax.models.unprojection import UnprojectionNet
from talkinghead_jax.nn.optim import make_optimizer
from talkinghead_jax.nn.temporal import masked_mean
from talkinghead_jax.ops.batch_parallel import mean_over_devices
from talkinghead_jax.stages.base import Arrays, PerPlayer, Player, Stage

FROZEN = ('uv_mask', 'uv_weight', 'uv_mean')
FACE_WIDTH = float(face.TEMPLATE[16, 0] - face.TEMPLATE[0, 0])  # crop px: the template's jaw, ear to ear


def make(config: ConfigDict, dataset_axes: Mapping[str, int]) -> Stage:
    """Build the stage; `dataset_axes` is not needed."""
    own = config.unprojection
    net = UnprojectionNet(own.model.width, own.model.residual, own.model.hidden, own.model.momentum,
                          dtype=config.dtype)
    size = config.image_size

    def init(key: jax.Array) -> tuple[PerPlayer, PerPlayer]:
        image = jnp.zeros((1, size, size, 3))
        variables = net.init(key, image, image[0])
        params = variables.pop('params')
        return {'net': params}, {'net': variables}  # batch statistics, or nothing

    def variables(params: PerPlayer, model_state: PerPlayer) -> Arrays:
        return {'params': params['net'], **model_state['net']}

    def predict(params: PerPlayer, model_state: PerPlayer, frozen: Arrays, batch: Arrays) -> Arrays:
        image = batch['image'].astype(jnp.float32) / 127.5 - 1
        return {'position_map': net.apply(variables(params, model_state), image, frozen['uv_mean'])}

    def compute_losses(params: PerPlayer, model_state: PerPlayer, frozen: Arrays, batch: Arrays,
                       keys: jax.Array) -> tuple[Arrays, tuple[PerPlayer, Arrays]]:
        image = batch['image'].astype(jnp.float32) / 127.5 - 1
        predicted, new_state = net.apply(
            variables(params, model_state), image, frozen['uv_mean'], train=True, mutable=['batch_stats'])
        squared = ((predicted - batch['position_map']) ** 2).sum(-1)
        error = mean_over_faces(squared, frozen['uv_weight' if own.losses.weighted else 'uv_mask'], batch['mask'])
        # The root of the mean: the mean of the devices' roots would be another number.
        distance = jnp.sqrt(mean_over_devices(mean_over_faces(squared, frozen['uv_mask'], batch['mask'])))
        # In units of 10 px, so that the gradient is of order one.
        return {'net': error / 100}, ({'net': new_state}, {'distance_rms_px': distance})

    def compute_metrics(outputs: Arrays, batch: Arrays, frozen: Arrays) -> Arrays:
        predicted, true = outputs['position_map'], batch['position_map']
        return {'vertex_error_percent': vertex_error(predicted, true, frozen['uv_mask']),
                'nme_68_percent': landmark_error(predicted, true, frozen['uv_weight'])}

    def baselines(batch: Arrays, frozen: Arrays) -> dict[str, Arrays]:
        positions = jnp.broadcast_to(frozen['uv_mean'][None], batch['position_map'].shape)
        return {'mean_shape': {'position_map': positions}}

    return Stage('unprojection', (Player('net', make_optimizer(own.optim, own.steps)),),
                 specs.unprojection_batch(own.batch_size, size), init, compute_losses, predict, compute_metrics,
                 baselines, FROZEN)


def mean_over_faces(values: jax.Array, weight: jax.Array, mask: jax.Array) -> jax.Array:
    """Weighted mean of a value at each UV position (PRNet, Feng et al. 2018, Eq. 1).

    Args:
      values: (B, S, S).
      weight: (S, S), 0 where not valid.
      mask: (B,) bool, False for an example that only pads.

    Returns:
      A scalar; under `pmap`, this device's share of it (`masked_mean`).
    """
    return masked_mean(values, weight[None] * mask.astype(jnp.float32)[:, None, None])


def landmark_error(predicted: jax.Array, true: jax.Array, weight: jax.Array) -> jax.Array:
    """NME of the 68 key points in the picture's plane (PRNet, Sec. 4.2): (B,) per cent.

    Mean distance over the root of the area of the true points' bounding box. Key points are the UV positions that
    weigh most; on a coarse map two of them may share one.

    Args:
      predicted, true: (B, S, S, 3) crop px.
      weight: (S, S), `uv_weight`.
    """
    points = (weight == weight.max()).astype(jnp.float32)
    distance = jnp.sqrt(((predicted - true)[..., :2] ** 2).sum(-1))
    outside = jnp.where(points[None, ..., None] > 0, 0.0, jnp.inf)
    sides = (true[..., :2] - outside).max((1, 2)) - (true[..., :2] + outside).min((1, 2))
    size = jnp.sqrt(jnp.maximum(sides.prod(-1), 1.0))
    return 100 * (distance * points[None]).sum((1, 2)) / points.sum() / size


def vertex_error(predicted: jax.Array, true: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean distance of the valid vertices, in per cent of the template's face width (116 crop px): (B,).

    Args:
      predicted, true: (B, S, S, 3) crop px.
      mask: (S, S), 1 where valid.
    """
    distance = jnp.sqrt(((predicted - true) ** 2).sum(-1))
    mean = (distance * mask[None]).sum((1, 2)) / jnp.maximum(mask.sum(), 1.0)
    return 100 * mean / FACE_WIDTH
