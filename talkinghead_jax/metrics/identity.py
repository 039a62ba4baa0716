"""CSIM: the cosine between the embeddings that a face recognition network makes of two pictures.

The paper names ArcFace (its reference [11]; Deng et al., CVPR 2019), but which of its models, which crop and which
alignment it does not say; nor do Zakharov et al. (2019), from whom it has the measure. This is InsightFace's recipe:
five points to ArcFace's template by a similarity transform, 112 x 112 px. ArcFace's networks are the IResNets;
MobileFaceNet is another one, trained on other faces. Numbers of two back ends are not comparable.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face
from talkinghead_jax.nn.sampling import sample_points
from third_party.iresnet.network import IResNet
from third_party.mobilefacenet.network import MobileFaceNet

# Back end -> converted network.
BACKENDS: Mapping[str, str] = {'iresnet100': 'iresnet100', 'iresnet50': 'iresnet50', 'mobilefacenet': 'mobilefacenet'}

SIZE = 112  # px
TEMPLATE = np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655),
                     (70.7299, 92.2041)], np.float32)  # (5, 2) px: eyes, nose, mouth; left in the picture first

_NOSE_TIP = 30
_MOUTH_CORNERS = 48, 54
_TINY = 1e-6
_NETWORKS = {'iresnet100': IResNet, 'iresnet50': IResNet, 'mobilefacenet': MobileFaceNet}


def five_points(landmarks: jax.Array) -> jax.Array:
    """Of 68 points the five that faces are aligned by.

    Args:
      landmarks: (B,68,2) or (B,68,3), iBUG order, px.

    Returns:
      (B,5,2) px: the eyes' centres (means of six points each), the nose's tip, the mouth's corners; what lies left in
      the picture of a frontal face comes first.
    """
    points = landmarks[..., :2]
    eyes = [points[:, eye[0]:eye[-1] + 1].mean(1) for eye in (face.RIGHT_EYE, face.LEFT_EYE)]
    return jnp.stack([*eyes, *(points[:, i] for i in (_NOSE_TIP, *_MOUTH_CORNERS))], axis=1)


def similarity(points: jax.Array) -> jax.Array:
    """Where the template's pixels lie in each picture.

    The least-squares similarity transform without reflection from the points to the template (Umeyama, TPAMI 13(4),
    1991), which in two dimensions is one complex division, inverted.

    Args:
      points: (B,5,2) px.

    Returns:
      (B,2,3): template px -> picture px. Points that all coincide give that point everywhere.
    """
    template = jnp.asarray(TEMPLATE)[None]
    centre, middle = points.mean(1), template.mean(1)
    source, target = points - centre[:, None], template - middle[:, None]
    # With points as complex numbers z -> w: the factor is sum(conj(z) w) / sum |z|^2, and its inverse is wanted.
    real = (source * target).sum((1, 2))
    imaginary = (source[..., 0] * target[..., 1] - source[..., 1] * target[..., 0]).sum(1)
    scale = (source ** 2).sum((1, 2)) / jnp.maximum(real ** 2 + imaginary ** 2, _TINY)
    a, b = scale * real, -scale * imaginary
    linear = jnp.stack([jnp.stack([a, -b], -1), jnp.stack([b, a], -1)], -2)
    shift = centre - (linear * middle[:, None]).sum(-1)
    return jnp.concatenate([linear, shift[..., None]], -1)


def align(images: jax.Array, points: jax.Array) -> jax.Array:
    """Cut faces out, so that their five points lie at the template's.

    Bilinear without smoothing, black beyond the picture, as OpenCV's warpAffine, which InsightFace calls.

    Args:
      images: (B,H,W,3) RGB, 0 .. 255, any type.
      points: (B,5,2) px, pixel centres at integers.

    Returns:
      (B,112,112,3) float32, 0 .. 255, not rounded.
    """
    transform = similarity(points.astype(jnp.float32))
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1).reshape(1, -1, 2).astype(np.float32)
    # Sums of products by hand: a matrix product may be rounded to fewer digits on an accelerator.
    places = (grid[:, :, None] * transform[:, None, :, :2]).sum(-1) + transform[:, None, :, 2]
    framed = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))  # the sampler continues the border: a black one
    return sample_points(framed, places + 1).reshape(-1, SIZE, SIZE, images.shape[-1])


def embed(backend: str, params: Mapping[str, Any], images: jax.Array, landmarks: jax.Array) -> jax.Array:
    """What a network sees of the persons.

    Args:
      backend: one of `BACKENDS`.
      params: of its network, as `third_party.assets.load` gives them.
      images: (B,H,W,3) uint8 RGB.
      landmarks: (B,68,2) or (B,68,3), iBUG order, px of these images.

    Returns:
      (B,512) float32 of length 1; of MobileFaceNet (B,128).

    Raises:
      UserError: there is no such back end.
    """
    if backend not in BACKENDS:
        raise UserError(f'identity back end {backend!r}: unknown; want one of {", ".join(BACKENDS)}')
    faces = align(images, five_points(landmarks))
    embeddings = _NETWORKS[backend].of(params).apply({'params': params}, faces)
    return embeddings / jnp.maximum(jnp.sqrt((embeddings ** 2).sum(-1, keepdims=True)), _TINY)
