"""Perceptual loss: how far two images lie apart in the features of VGG19.

Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution" (ECCV 2016), with the layers,
the distance and the weights that the paper's implementation takes from Wang et al., "High-Resolution Image
Synthesis and Semantic Manipulation with Conditional GANs" (CVPR 2018, pix2pixHD); that implementation leaves out the
normalisation of the input that the weights were trained with, ours does not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from third_party.vgg19.network import VGG19

WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # of relu1_1, relu2_1, relu3_1, relu4_1, relu5_1


def perceptual(image: jax.Array, target: jax.Array, vgg19: Mapping[str, Any], dtype: Any = jnp.float32) -> jax.Array:
    """Weighted L1 between the features of two images; no gradient flows into the target.

    Args:
      image: (B,H,W,3) in [-1, 1], sides of 16 px or more.
      target: the same.
      vgg19: parameters of `VGG19`.
      dtype: of its convolutions; distances are added up in float32 at least.

    Returns:
      (B,)
    """
    network = VGG19.of(vgg19, dtype)
    features = network.apply({'params': vgg19}, image)
    # Apart from the image's, so that the backward pass does not run through the target's half of a batch.
    wanted = network.apply({'params': vgg19}, jax.lax.stop_gradient(target))
    return feature_distance(features, wanted)


def feature_distance(features: Sequence[jax.Array], wanted: Sequence[jax.Array]) -> jax.Array:
    """Sum over layers of `WEIGHTS` times the mean absolute difference: (B,H_i,W_i,C_i) twice a layer -> (B,)."""
    return sum(weight * jnp.abs(a - b).astype(jnp.promote_types(a.dtype, jnp.float32)).mean((1, 2, 3))
               for weight, a, b in zip(WEIGHTS, features, wanted, strict=True))
