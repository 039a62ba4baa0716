"""The hybrid embedding (paper, Sec. 4.2, Eq. 3-7): references and landmarks -> features and generated weights.

Original choices kept (strides, widths, where information is exchanged); where the paper leaves room, the
design's Sec. 4 decides. Everything that touches a reference treats the K references alike and normalises per
example, so the result depends neither on their order nor on padding.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.nn.blocks import ConvNorm, ResidualBlock, leaky_relu
from talkinghead_jax.nn.generated import RowMlp
from talkinghead_jax.nn.initialization import Conv
from talkinghead_jax.nn.remat import checkpointed

EXCHANGE_LEVEL = 2  # references are merged after two stride-2 layers
KERNELS = 5  # generated kernels a level: (gamma, beta) of two SPADE sums, and theta_S


def level_widths(width: int, max_width: int, levels: int) -> tuple[int, ...]:
    """Channels of each level; level i has 1 / 2^i of the image's resolution."""
    return tuple(min(width * 2 ** i, max_width) for i in range(levels))


class LevelWeights(NamedTuple):
    """Generated weights of one level, last column the bias: `spade` (B,2,2,C,C+1), `embed` (B,C,C+1).

    `spade` axes: example, which of the two SPADE sums, (gamma, beta), output channel, input channel.
    """

    spade: jax.Array
    embed: jax.Array


def attention(reference_features: jax.Array, target_features: jax.Array, mask: jax.Array) -> jax.Array:
    """Eq. 3: softmax over the references of E_A(l_k) . E_A(l_t), pixel by pixel.

    Args:
      reference_features: (B,K,h,w,C).
      target_features: (B,h,w,C).
      mask: (B,K) bool, at least one True each.

    Returns:
      (B,K,h,w) float32, exactly 0 where masked; sums to 1 over K.
    """
    energy = jnp.einsum('bkhwc,bhwc->bkhw', reference_features, target_features, preferred_element_type=jnp.float32)
    energy = jnp.where(mask[:, :, None, None], energy, -jnp.inf)
    return jax.nn.softmax(energy, axis=1)


def combine(weights: jax.Array, refined: jax.Array, gated: jax.Array, mask: jax.Array) -> jax.Array:
    """Eq. 6: sum of attended references plus the mean of the gated ones, over valid references.

    Args:
      weights: (B,K,h,w) of `attention`.
      refined: (B,K,h,w,C), q'.
      gated: (B,K,h,w,C), each reference through the shared ConvGate.
      mask: (B,K) bool.

    Returns:
      (B,h,w,C).
    """
    return jnp.einsum('bkhw,bkhwc->bhwc', weights.astype(refined.dtype), refined) + mean(gated, mask)


def mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of (B,K,h,w,C) over the references that `mask` (B,K) allows."""
    share = (mask / mask.sum(1, keepdims=True)).astype(values.dtype)
    return jnp.einsum('bk,bkhwc->bhwc', share, values)


def fuse(landmark_feature: jax.Array, image_feature: jax.Array) -> jax.Array:
    """The product in Eq. 7: softmax over channels of the landmark feature times the image feature transposed.

    Args:
      landmark_feature: (B,h,w,C).
      image_feature: (B,h,w,C).

    Returns:
      (B,C,C) float32; rows belong to output channels.
    """
    shares = jax.nn.softmax(landmark_feature.astype(jnp.float32), -1).astype(image_feature.dtype)
    return jnp.einsum('bhwo,bhwi->boi', shares, image_feature, preferred_element_type=jnp.float32)


class Trunk(nn.Module):
    """A convolution and two stride-2 ones: (B,H,W,C) -> (B,H/4,W/4,widths[2]). E_A, and the start of E_I, E_L."""

    widths: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Encode."""
        x = ConvNorm(self.widths[0], dtype=self.dtype)(x)
        for width in self.widths[1:EXCHANGE_LEVEL + 1]:
            x = ConvNorm(width, 2, self.dtype)(x)
        return x


class ConvGate(nn.Module):
    """Gates the feature of each reference by itself, with weights that all references share."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, q: jax.Array) -> jax.Array:
        """(N,h,w,C) -> (N,h,w,features)."""
        value, gate = jnp.split(Conv(2 * self.features, (3, 3), dtype=self.dtype)(q), 2, axis=-1)
        return leaky_relu(value) * nn.sigmoid(gate)


class HybridEmbedding(nn.Module):
    """E_A, E_I, E_L and E_F.

    Attributes:
      widths: channels of each level.
      hybrid: False for the ablation: references are averaged, without activation maps and exchange.
      remat: one of `remat.MODES`, for what runs on every reference.
    """

    widths: tuple[int, ...]
    hybrid: bool = True
    dtype: jnp.dtype = jnp.float32
    remat: str = ''

    @nn.compact
    def __call__(self, images: jax.Array, sketches: jax.Array, target_sketch: jax.Array,
                 mask: jax.Array) -> tuple[jax.Array, list[LevelWeights], jax.Array]:
        """Embed the references with respect to the target's landmarks.

        Args:
          images: (B,K,H,W,3) in [-1, 1].
          sketches: (B,K,H,W,1) in [0, 1].
          target_sketch: (B,H,W,1).
          mask: (B,K) bool.

        Returns:
          e_y (B,h,w,widths[-1]) at the last level's resolution, the generated weights of each level, and the
          activation maps (B,K,H/4,W/4).
        """
        width = self.widths[EXCHANGE_LEVEL]
        trunk = functools.partial(checkpointed(Trunk, self.remat), self.widths, self.dtype)
        q_y = self._per_reference(trunk(name='image_trunk'), images)
        q_l = self._per_reference(trunk(name='landmark_trunk'), sketches)
        if self.hybrid:
            activation = trunk(name='activation')  # E_A, the same for query and keys
            stacked = jnp.concatenate([sketches, target_sketch[:, None]], 1)
            features = self._per_reference(activation, stacked)
            alpha = attention(features[:, :-1], features[:, -1], mask)
            exchange = checkpointed(ResidualBlock, self.remat)(width, self.dtype, name='exchange')
            shared = self._per_reference(exchange, jnp.concatenate([q_y, q_l], -1))
            q_y, q_l = (self._aggregate(q, shared, alpha, mask, name)
                        for q, name in ((q_y, 'image'), (q_l, 'landmark')))
        else:
            alpha = jnp.broadcast_to((mask / mask.sum(1, keepdims=True))[:, :, None, None], q_y.shape[:-1])
            q_y, q_l = mean(q_y, mask), mean(q_l, mask)
        e_y, e_l = self._finish(q_y, 'image'), self._finish(q_l, 'landmark')
        return e_y, self._fusion(e_y, e_l), alpha

    def _per_reference(self, module: nn.Module, x: jax.Array) -> jax.Array:
        """Apply `module` to each reference of (B,K,H,W,C)."""
        out = module(x.reshape(-1, *x.shape[2:]))
        return out.reshape(*x.shape[:2], *out.shape[1:])

    def _aggregate(self, q: jax.Array, shared: jax.Array, alpha: jax.Array, mask: jax.Array,
                   name: str) -> jax.Array:
        """Bottleneck, ConvGate and Eq. 6: (B,K,h,w,C) -> (B,h,w,C)."""
        width = q.shape[-1]
        bottleneck = checkpointed(ConvNorm, self.remat)(width, dtype=self.dtype, name=f'{name}_bottleneck')
        gate = checkpointed(ConvGate, self.remat)(width, self.dtype, name=f'{name}_gate')
        refined = self._per_reference(bottleneck, jnp.concatenate([q, shared], -1))
        return combine(alpha, refined, self._per_reference(gate, q), mask)

    def _finish(self, q: jax.Array, name: str) -> jax.Array:
        for level, width in enumerate(self.widths[EXCHANGE_LEVEL + 1:], EXCHANGE_LEVEL + 1):
            q = ConvNorm(width, 2, self.dtype, name=f'{name}_encoder{level}')(q)
        return q

    def _fusion(self, e_y: jax.Array, e_l: jax.Array) -> list[LevelWeights]:
        """E_F, Eq. 7: one C x C matrix a level, and from its rows the level's kernels."""
        weights: list[LevelWeights] = []
        for level in reversed(range(len(self.widths))):
            width = self.widths[level]
            e_y = ConvNorm(width, dtype=self.dtype, name=f'fusion_image{level}')(e_y)
            e_l = ConvNorm(width, dtype=self.dtype, name=f'fusion_landmark{level}')(e_l)
            kernels = RowMlp(width, KERNELS, self.dtype, name=f'fusion_mlp{level}')(fuse(e_l, e_y))
            spade = kernels[:, :4].reshape(-1, 2, 2, *kernels.shape[2:])
            weights.append(LevelWeights(spade, kernels[:, 4]))
        return weights[::-1]
