"""Theta without its 3-D module: hybrid embedding, flow, non-linear composition (paper, Sec. 4.2, 4.3)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.models.composition import Decoder, LandmarkEmbedding, Pyramid
from talkinghead_jax.models.embedding import HybridEmbedding, level_widths
from talkinghead_jax.models.flow import FlowNet, warp
from talkinghead_jax.nn.remat import checkpointed

# The decoder ends in a hyperbolic tangent: what its inverse was applied to can pass through all linear layers.
MARGIN = 0.98  # keeps the inverse finite at -1 and 1
ABLATIONS = ('', 'no_3d', 'no_hybrid', 'no_warp', 'matting')  # of Fig. 10(a)


class Source(NamedTuple):
    """An image that is warped and composed.

    Attributes:
      image: (B,H,W,3) in [-1, 1].
      known: (B,H,W,1) in [0, 1], 0 where it shows nothing that may be copied: no surface, or a blanked box.
      sketch: (B,H,W,1) of its landmarks.
      prior: (B,H,W,2) px, `flow.landmark_field` from the target to it.
    """

    image: jax.Array
    known: jax.Array
    sketch: jax.Array
    prior: jax.Array


class Warped(NamedTuple):
    """A warped source: image (B,H,W,3), known (B,H,W,1), flow (B,H,W,2) px, attention (B,H,W,1)."""

    image: jax.Array
    known: jax.Array
    flow: jax.Array
    attention: jax.Array


class Generator(nn.Module):
    """The network of Fig. 2 behind the projector and the motion matcher.

    Attributes:
      width, max_width, levels: channels double from `width` to `max_width` over `levels` resolutions.
      flow_downs, flow_blocks: depth of the flow networks.
      ablation: one of ABLATIONS.
      remat: one of `remat.MODES`, gradient checkpointing.
    """

    width: int
    max_width: int
    levels: int
    flow_downs: int
    flow_blocks: int
    ablation: str = ''
    dtype: jnp.dtype = jnp.float32
    remat: str = ''

    @nn.compact
    def __call__(self, references: jax.Array, reference_sketches: jax.Array, reference_mask: jax.Array,
                 target_sketch: jax.Array, sources: dict[str, Source]) -> tuple[jax.Array, dict[str, Warped]]:
        """Synthesise the target frame.

        Args:
          references: (B,K,H,W,3) in [-1, 1].
          reference_sketches: (B,K,H,W,1) in [0, 1].
          reference_mask: (B,K) bool.
          target_sketch: (B,H,W,1).
          sources: 'matched' (y_ts) and 'render' (y~_t).

        Returns:
          (B,H,W,3) float32 in [-1, 1], and each source warped.
        """
        widths = level_widths(self.width, self.max_width, self.levels)
        e_y, weights, _ = HybridEmbedding(
            widths, self.ablation != 'no_hybrid', self.dtype, self.remat, name='embedding')(
            references, reference_sketches, target_sketch, reference_mask)
        landmark = checkpointed(LandmarkEmbedding, self.remat)(
            widths, self.dtype, name='landmark_embedding')(target_sketch, weights)
        if self.ablation == 'no_3d':
            sources = {name: source for name, source in sources.items() if name != 'render'}
        warped = {name: self._warp(name, source, target_sketch) for name, source in sources.items()}
        pyramids = []
        if self.ablation != 'matting':
            pyramids = [checkpointed(Pyramid, self.remat)(widths, True, self.dtype, name=f'{name}_embedding')(
                jnp.concatenate([jnp.arctanh(MARGIN * jnp.clip(w.image, -1, 1)), w.known, w.attention], -1))
                for name, w in warped.items()]
        image = Decoder(widths, self.dtype, self.remat, name='decoder')(e_y, landmark, weights, pyramids)
        if self.ablation == 'matting':  # the linear alternative: first the render, then the matched reference
            for name in ('render', 'matched'):
                a = warped[name].attention
                image = a * image + (1 - a) * warped[name].image
        return image, warped

    def _warp(self, name: str, source: Source, target_sketch: jax.Array) -> Warped:
        if self.ablation == 'no_warp':
            zeros = jnp.zeros_like(source.image)
            return Warped(source.image, source.known, zeros[..., :2], 1 + zeros[..., :1])
        flow_net = checkpointed(FlowNet, self.remat)(
            self.width, self.max_width, self.flow_downs, self.flow_blocks, self.dtype, name=f'{name}_flow')
        flow, mask = flow_net(target_sketch, source.sketch, source.image, source.prior)
        warped = warp(jnp.concatenate([source.image, source.known], -1), flow)
        return Warped(warped[..., :3], warped[..., 3:], flow, mask)
