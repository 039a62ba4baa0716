"""Theta as a stage: the 3D-aware generative network, its discriminators, losses and metrics (paper, Sec. 3.4, 4)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry.sketch import to_pixels
from talkinghead_jax.losses import flow as flow_losses
from talkinghead_jax.losses import gan, image
from talkinghead_jax.losses.perceptual import perceptual
from talkinghead_jax.metrics import image as image_metrics
from talkinghead_jax.models import generator as generator_model
from talkinghead_jax.models.conditioning import Conditions, condition, to_float
from talkinghead_jax.models.discriminator import MultiScaleDiscriminator
from talkinghead_jax.nn import randomness, remat
from talkinghead_jax.nn.initialization import initialize
from talkinghead_jax.nn.optim import make_optimizer
from talkinghead_jax.nn.spectral import COLLECTION
from talkinghead_jax.nn.temporal import masked_mean
from talkinghead_jax.stages.base import Arrays, PerPlayer, Player, Stage


def make(config: ConfigDict, dataset_axes: Mapping[str, int]) -> Stage:
    """Build the stage.

    Args:
      config: the whole config; this reads `image_size`, `dtype` and `generator`.
      dataset_axes: 'vertices', the number of vertices of the dataset's mesh.

    Raises:
      UserError: an impossible size, or an unknown ablation.
    """
    stage = config.generator
    _check(config)
    theta = _Theta(config)
    optimizer = make_optimizer(stage.optim, stage.steps)
    return Stage(
        name='generator',
        players=(Player('gen', optimizer, stage.ema_decay), Player('disc', optimizer)),
        batch_spec=specs.generator_batch(
            stage.batch_size, stage.data.references, config.image_size, dataset_axes['vertices']),
        init=theta.init,
        losses=theta.losses,
        predict=theta.predict,
        metrics=_metrics,
        baselines=theta.baselines,
        frozen_fields=('triangles', 'pose_deviation') + (('vgg19',) if stage.losses.perceptual.weight else ()),
    )


def _check(config: ConfigDict) -> None:
    model = config.generator.model
    if model.ablation not in generator_model.ABLATIONS:
        raise UserError(f'config.generator.model.ablation is {model.ablation!r}; '
                        f'want one of {", ".join(map(repr, generator_model.ABLATIONS))}')
    if model.remat not in remat.MODES:
        raise UserError(f'config.generator.model.remat is {model.remat!r}; '
                        f'want one of {", ".join(map(repr, remat.MODES))}')
    if model.levels < 3:
        raise UserError(f'config.generator.model.levels is {model.levels}; want at least 3')
    divisor = 2 ** max(model.levels - 1, model.flow_downs)
    if config.image_size % divisor:
        raise UserError(f'config.image_size is {config.image_size}; {model.levels} levels and {model.flow_downs} '
                        f'flow downsamplings want a multiple of {divisor}')
    if config.generator.losses.perceptual.weight and config.image_size < 16:
        raise UserError(f'config.image_size is {config.image_size}; the perceptual loss wants at least 16')


class _Theta:
    """The stage's pure functions, which share the networks and the config."""

    def __init__(self, config: ConfigDict):
        stage = config.generator
        model = stage.model
        self._size = config.image_size
        self._weights = stage.losses
        self._model = model
        self._worse_match = stage.worse_match_probability
        self._dtype = dtype = jnp.dtype(config.dtype)
        self._generator = generator_model.Generator(
            model.width, model.max_width, model.levels, model.flow_downs, model.flow_blocks, model.ablation, dtype,
            model.remat)
        disc = model.discriminator
        self._discriminator = MultiScaleDiscriminator(disc.width, disc.max_width, disc.layers, disc.scales, dtype)

    def init(self, key: jax.Array) -> tuple[PerPlayer, PerPlayer]:
        """Parameters and spectral-norm vectors; shapes do not depend on batch size or number of references."""
        gen_key, disc_key = jax.random.split(key)
        frame = jnp.zeros((1, self._size, self._size, 3))
        line = frame[..., :1]
        source = generator_model.Source(frame, line, line, frame[..., :2])
        gen = initialize(self._generator, gen_key, frame[:, None], line[:, None], jnp.ones((1, 1), bool), line,
                         {'matched': source, 'render': source})
        disc = initialize(self._discriminator, disc_key, jnp.concatenate([frame, line, line], -1), frame, frame)
        params = {'gen': gen['params'], 'disc': disc['params']}
        return params, {'gen': {}, 'disc': {COLLECTION: disc[COLLECTION]}}

    def losses(self, params: PerPlayer, model_state: PerPlayer, frozen: Arrays, batch: Arrays,
               keys: jax.Array) -> tuple[Arrays, tuple[PerPlayer, Arrays]]:
        """Both players' losses from one forward pass of both networks (paper, Eq. 8)."""
        given = self._condition(batch, frozen, randomness.stream(keys, 'matcher'))
        fake, warped = self._generate(params, given)
        target = to_float(batch['target'])
        weights = self._weights
        terms: dict[str, jax.Array] = {}  # (B,) each
        adversarial_terms, model_state = self._adversarial(params, model_state, given, target, fake)
        terms |= adversarial_terms
        if weights.reconstruction.weight:
            terms['reconstruction'] = image.reconstruction(
                fake, target, weights.reconstruction.ssim_share,
                1 + weights.reconstruction.expression * given.target_boxes)
        if weights.flow.weight and self._model.ablation != 'no_warp':
            flows, warps = self._flow_terms(given, batch, warped, target)
            terms |= flows | warps
            terms['flow'] = sum(flows.values()) + weights.flow.warp * sum(warps.values())
        if weights.perceptual.weight:
            terms['perceptual'] = perceptual(fake, target, frozen['vgg19'], self._dtype)
        means = {name: masked_mean(term, batch['mask']) for name, term in terms.items()}
        gen = sum((weights[name].weight * means[name] for name in weights if name in means), jnp.zeros(()))
        disc = means.get('disc_hinge', jnp.zeros(()))
        return {'gen': gen, 'disc': disc}, (model_state, means)

    def predict(self, params: PerPlayer, model_state: PerPlayer, frozen: Arrays, batch: Arrays) -> Arrays:
        """The target frame and what led to it; render and matched reference as they are, before blanking."""
        del model_state
        given = self._condition(batch, frozen)
        fake, warped = self._generate(params, given)
        outputs = {
            'image': fake, 'render': given.projection.image, 'render_alpha': given.projection.alpha,
            'matched': given.matched,
        }
        for name in ('render', 'matched'):
            outputs[f'warped_{name}'] = warped[name].image if name in warped else jnp.full_like(fake, -1.0)
        return outputs

    def baselines(self, batch: Arrays, frozen: Arrays) -> dict[str, Arrays]:
        """The matched reference copied, and the render pasted on it."""
        given = self._condition(batch, frozen)
        alpha = given.projection.alpha[..., None]
        # The render is already composed with black, so it only needs the reference in place of the black.
        pasted = given.projection.image + (1 - alpha) * (given.matched + 1)
        return {'matched_reference': {'image': given.matched}, 'render_on_reference': {'image': pasted}}

    def _condition(self, batch: Arrays, frozen: Arrays, keys: jax.Array | None = None) -> Conditions:
        return condition(batch, frozen, blank=self._model.blank_expression_regions,
                         literal=self._model.literal_matcher, keys=keys, worse_probability=self._worse_match)

    def _generate(self, params: PerPlayer, given: Conditions) -> Any:
        return self._generator.apply({'params': params['gen']}, given.references, given.reference_sketches,
                                     given.reference_mask, given.target_sketch, given.sources)

    def _adversarial(self, params: PerPlayer, model_state: PerPlayer, given: Conditions, target: jax.Array,
                     fake: jax.Array) -> tuple[Arrays, PerPlayer]:
        """Hinge and feature matching terms, and the state after one power iteration; nothing where unweighted."""
        weights = self._weights
        if not (weights.adversarial.weight or weights.feature_matching.weight):
            return {}, model_state
        matched = given.sources['matched']
        condition_maps = jnp.concatenate([matched.sketch, matched.image, given.target_sketch], -1)
        (real, fake), new = self._discriminator.apply(
            {'params': params['disc'], **model_state['disc']}, condition_maps, target, fake, mutable=[COLLECTION])
        real_scores, fake_scores = [f[-1] for f in real], [f[-1] for f in fake]
        terms = {'disc_hinge': gan.discriminator_hinge(real_scores, fake_scores)}
        if weights.adversarial.weight:
            terms['adversarial'] = gan.generator_hinge(fake_scores)
        if weights.feature_matching.weight:
            terms['feature_matching'] = gan.feature_matching([f[:-1] for f in real], [f[:-1] for f in fake])
        return terms, {**model_state, 'disc': dict(new)}

    def _flow_terms(self, given: Conditions, batch: Arrays, warped: Mapping[str, generator_model.Warped],
                    target: jax.Array) -> tuple[Arrays, Arrays]:
        """Supervision of both flows (design, Sec. 4): geometry for y_ts; landmarks and the warp only for y~_t.

        Returns:
          Errors of flows in px, and L1 of warped images, (B,) each.
        """
        points, matched_points, render_points = (
            to_pixels(landmarks[..., :2], self._size)
            for landmarks in (batch['target_landmarks'], given.matched_landmarks, given.render_landmarks))
        still = 1 - given.target_boxes  # eyes and mouth change by themselves, not by a flow
        alpha = given.projection.alpha * still
        matched = warped['matched']
        flows = {'flow_landmark': flow_losses.landmark_flow(matched.flow, points, matched_points)}
        warps = {'flow_warp': image.l1(matched.image, target, still)}
        if 'render' in warped:  # without the 3-D module (ablation) there is no mesh to learn from
            render = warped['render']
            flows['flow_mesh'] = flow_losses.mesh_flow(matched.flow, given.projection.displacement, alpha)
            flows['render_flow_landmark'] = flow_losses.landmark_flow(render.flow, points, render_points)
            warps['render_flow_warp'] = image.l1(render.image, target, alpha)
        return flows, warps


def _metrics(outputs: Arrays, batch: Arrays, frozen: Arrays) -> Arrays:
    """SSIM (`ssim@uniform7`) and PSNR (dB): (B,) each."""
    del frozen
    target = to_float(batch['target'])
    return {'ssim': image_metrics.ssim(outputs['image'], target),
            'psnr': image_metrics.psnr(outputs['image'], target)}
