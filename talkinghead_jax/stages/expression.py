"""Stage 'expression': Psi (paper, Sec. 3.2)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face
from talkinghead_jax.losses import landmark as losses
from talkinghead_jax.metrics import landmark as metrics
from talkinghead_jax.models.expression import ExpressionNet
from talkinghead_jax.nn.optim import make_optimizer
from talkinghead_jax.stages.base import Arrays, PerPlayer, Player, Stage

FROZEN = ('pca_mean', 'pca_basis', 'pca_deviation')


def make(config: ConfigDict, dataset_axes: Mapping[str, int]) -> Stage:
    """Build the stage; raises UserError where the config and the dataset's PCA disagree."""
    own = config.expression
    components = own.model.components
    if dataset_axes['components'] != components:
        raise UserError(f'expression.model.components is {components}; the dataset was prepared with '
                        f'{dataset_axes["components"]}')
    net = ExpressionNet(own.model.encoder, own.model.width, components, config.dtype)
    weights = own.losses.to_dict()

    def init(key: jax.Array) -> tuple[PerPlayer, PerPlayer]:
        chunks = jnp.zeros((1, 1 + 2 * specs.WINDOW_RADIUS, specs.CHUNK), jnp.int16)
        return {'net': net.init(key, chunks, jnp.zeros((1, components)))['params']}, {'net': {}}

    def predict(params: PerPlayer, model_state: PerPlayer, frozen: Arrays, batch: Arrays) -> Arrays:
        reference = face.project(frozen, batch['reference_frontal'] - batch['identity'])
        coefficients = net.apply({'params': params['net']}, batch['audio'], reference)
        frontal = face.reconstruct(frozen, coefficients) + batch['identity'][:, None]
        return {'coefficients': coefficients, 'frontal': frontal}

    def compute_losses(params: PerPlayer, model_state: PerPlayer, frozen: Arrays, batch: Arrays,
                       keys: jax.Array) -> tuple[Arrays, tuple[PerPlayer, Arrays]]:
        outputs = predict(params, model_state, frozen, batch)
        true = batch['target_frontal']
        coefficients = face.project(frozen, true - batch['identity'][:, None])
        mask, deviation = batch['frame_mask'] & batch['mask'][:, None], frozen['pca_deviation']
        terms = {
            'coefficient': losses.coefficient_error(outputs['coefficients'], coefficients, deviation, mask),
            'mouth': losses.mouth_error(outputs['frontal'], true, mask),
            'velocity': losses.velocity_error(outputs['coefficients'], coefficients, deviation, mask),
        }
        total = sum(weights[name] * terms[name] for name in weights)
        return {'net': total}, (model_state, terms)

    def compute_metrics(outputs: Arrays, batch: Arrays, frozen: Arrays) -> Arrays:
        pair = outputs['frontal'], batch['target_frontal'], batch['frame_mask']
        return {
            'lmd': metrics.lmd(*pair),
            'mouth_error': metrics.mouth_error(*pair),
            'opening_correlation': metrics.opening_correlation(*pair),
        }

    def baselines(batch: Arrays, frozen: Arrays) -> dict[str, Arrays]:
        frames = batch['target_frontal'].shape[:2]
        frontal = jnp.broadcast_to((frozen['pca_mean'][None] + batch['identity'])[:, None], (*frames, 68, 3))
        return {'mean_face': {'frontal': frontal, 'coefficients': jnp.zeros((*frames, components))}}

    return Stage(
        'expression', (Player('net', make_optimizer(own.optim, own.steps)),),
        specs.expression_batch(own.batch_size, own.data.frames), init, compute_losses, predict, compute_metrics,
        baselines, FROZEN)
