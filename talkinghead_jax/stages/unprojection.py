"""Stage 'unprojection': the network that lifts a picture to a 3-D mesh (paper, Sec. 4.1)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from talkinghead_jax import specs
from talkinghead_jax.geometry import face
from talkinghead_jax.models.unprojection import UnprojectionNet
from talkinghead_jax.nn.optim import make_optimizer
from talkinghead_jax.stages.base import Arrays, PerPlayer, Player, Stage

FROZEN = ('uv_mask', 'uv_mean')
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
        weight = frozen['uv_mask'][None] * batch['mask'].astype(jnp.float32)[:, None, None]
        error = (squared * weight).sum() / jnp.maximum(weight.sum(), 1.0)
        # In units of 10 px, so that the gradient is of order one.
        return {'net': error / 100}, ({'net': new_state}, {'distance_rms_px': jnp.sqrt(error)})

    def compute_metrics(outputs: Arrays, batch: Arrays, frozen: Arrays) -> Arrays:
        error = vertex_error(outputs['position_map'], batch['position_map'], frozen['uv_mask'])
        return {'vertex_error_percent': error}

    def baselines(batch: Arrays, frozen: Arrays) -> dict[str, Arrays]:
        positions = jnp.broadcast_to(frozen['uv_mean'][None], batch['position_map'].shape)
        return {'mean_shape': {'position_map': positions}}

    return Stage('unprojection', (Player('net', make_optimizer(own.optim, own.steps)),),
                 specs.unprojection_batch(own.batch_size, size), init, compute_losses, predict, compute_metrics,
                 baselines, FROZEN)


def vertex_error(predicted: jax.Array, true: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean distance of the valid vertices, in per cent of the template's face width (116 crop px): (B,).

    Args:
      predicted, true: (B, S, S, 3) crop px.
      mask: (S, S), 1 where valid.
    """
    distance = jnp.sqrt(((predicted - true) ** 2).sum(-1))
    mean = (distance * mask[None]).sum((1, 2)) / jnp.maximum(mask.sum(), 1.0)
    return 100 * mean / FACE_WIDTH
