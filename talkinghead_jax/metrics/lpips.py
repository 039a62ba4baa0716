"""LPIPS, version 0.1: how far two pictures are apart in the features of a classifier, weighted as people judged.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (CVPR 2018), equation 1.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from talkinghead_jax.errors import UserError
from third_party.lpips.network import SMALLEST, Backbone

# Backbone -> the names of its converted network and of its heads.
BACKBONES: Mapping[str, tuple[str, str]] = {
    'alex': ('alexnet', 'lpips_alex'),
    'vgg': ('vgg16', 'lpips_vgg'),
    'squeeze': ('squeezenet1_1', 'lpips_squeeze'),
}
_EPSILON = 1e-10  # of the published code, added to the length of a feature vector


def lpips(backbone: str, params: Mapping[str, Any], heads: Mapping[str, Any], images: jax.Array,
          targets: jax.Array) -> jax.Array:
    """Perceptual distance of pairs of pictures, as they come: nothing is resized.

    Args:
      backbone: one of `BACKBONES`.
      params: of its network, as `third_party.assets.load` returns them.
      heads: of its heads, likewise.
      images: (B,H,W,3) uint8 RGB, or floats in 0 to 255; sides of 31 px or more.
      targets: same.

    Returns:
      (B,) float32, at least 0 with the published heads, which hold no negative weight; 0 for equal pictures.

    Raises:
      UserError: there is no such backbone, or the pictures are too small.
    """
    if backbone not in BACKBONES:
        raise UserError(f'LPIPS backbone {backbone!r}: unknown; want one of {", ".join(BACKBONES)}')
    if min(images.shape[1:3]) < SMALLEST:
        raise UserError(f'LPIPS of pictures of {images.shape[1]} x {images.shape[2]} px; want {SMALLEST} px or more')
    network = Backbone.of(BACKBONES[backbone][0], params)
    both = jnp.stack([images, targets], axis=1)  # side by side, so that a batch spread over devices stays where it is
    both = both.reshape(-1, *images.shape[1:]).astype(jnp.float32) / 127.5 - 1
    total = jnp.zeros(len(images), jnp.float32)
    for layer, features in enumerate(network.apply({'params': params}, both)):
        features = _unit(features)
        first, second = features[::2], features[1::2]
        weight = jnp.asarray(heads[f'lin{layer}']['weight'])[None, None, None]
        total += (jnp.square(first - second) * weight).sum(-1).mean((1, 2))
    return total


def _unit(features: jax.Array) -> jax.Array:
    return features / (jnp.sqrt(jnp.square(features).sum(-1, keepdims=True)) + _EPSILON)
