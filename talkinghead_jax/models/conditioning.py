"""From a generator batch to what the network reads: images, sketches, the render and the matched reference."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from talkinghead_jax.geometry import rigid, sketch
from talkinghead_jax.models import projection
from talkinghead_jax.models.flow import landmark_field
from talkinghead_jax.models.generator import Source


class Conditions(NamedTuple):
    """Everything derived from a batch's input fields; all images (.., S,S,3) in [-1, 1], geometry in crop px.

    Attributes:
      references: (B,K,S,S,3).
      reference_sketches: (B,K,S,S,1) in [0, 1].
      reference_mask: (B,K) bool.
      target_sketch: (B,S,S,1).
      target_boxes: (B,S,S), 1 in the target's eye and mouth boxes.
      matched: (B,S,S,3), y_ts as it is.
      matched_landmarks: (B,68,3).
      projection: y~_t as it is.
      render_landmarks: (B,68,3): the key frame's landmarks in the target's pose.
      sources: 'matched' and 'render' as the network sees them: blanked, if so configured.
    """

    references: jax.Array
    reference_sketches: jax.Array
    reference_mask: jax.Array
    target_sketch: jax.Array
    target_boxes: jax.Array
    matched: jax.Array
    matched_landmarks: jax.Array
    projection: projection.Projection
    render_landmarks: jax.Array
    sources: dict[str, Source]


def to_float(image: jax.Array) -> jax.Array:
    """uint8 -> float32 in [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1


def condition(batch: dict[str, jax.Array], frozen: dict[str, jax.Array], *, blank: bool, literal: bool,
              keys: jax.Array | None = None, worse_probability: float = 0.0) -> Conditions:
    """Run the 3D-aware module and the motion matcher, and draw the sketches.

    Args:
      batch: the input fields of `specs.generator_batch`; targets are not read.
      frozen: `triangles` (F,3) and `pose_deviation` (6,).
      blank: erase the eye and mouth boxes of render and matched reference, lest the mouth be copied.
      literal: Eq. 2 on raw h (radians and pixels added up) instead of h over the dataset's deviation.
      keys: (B,) random keys in training: a worse match is drawn with `worse_probability`.
      worse_probability: see `projection.match_harder`.
    """
    size = batch['references'].shape[2]
    references = to_float(batch['references'])
    deviation = jnp.ones(6) if literal else frozen['pose_deviation']
    costs = projection.pose_costs(
        batch['target_pose'], batch['reference_pose'], batch['reference_mask'], deviation)
    index = projection.match(costs) if keys is None else projection.match_harder(costs, keys, worse_probability)
    matched, matched_landmarks, matched_pose = (
        projection.take(x, index) for x in (references, batch['reference_landmarks'], batch['reference_pose']))
    projected = projection.project(
        batch['mesh_vertices'], batch['mesh_visibility'], frozen['triangles'], to_float(batch['key_image']),
        batch['key_pose'], batch['target_pose'], matched_pose)
    render_landmarks = rigid.repose(batch['key_landmarks'], batch['key_pose'], batch['target_pose'])
    shown = jnp.stack([batch['target_landmarks'], matched_landmarks, render_landmarks], 1)
    boxes = sketch.eye_mouth_mask(shown, size)
    target, *others = (sketch.to_pixels(shown[:, i, :, :2], size) for i in range(3))
    priors = [landmark_field(target, other, size) for other in others]
    drawn = sketch.draw(jnp.concatenate([shown[:, ::2], batch['reference_landmarks']], 1), size)[..., None]
    reference_sketches = drawn[:, 2:]
    return Conditions(
        references=references, reference_sketches=reference_sketches, reference_mask=batch['reference_mask'],
        target_sketch=drawn[:, 0], target_boxes=boxes[:, 0], matched=matched, matched_landmarks=matched_landmarks,
        projection=projected, render_landmarks=render_landmarks,
        sources={
            'matched': _source(matched, jnp.ones_like(projected.alpha), boxes[:, 1], blank,
                               projection.take(reference_sketches, index), priors[0]),
            'render': _source(projected.image, projected.alpha, boxes[:, 2], blank, drawn[:, 1], priors[1]),
        })


def _source(image: jax.Array, surface: jax.Array, boxes: jax.Array, blank: bool, *guides: jax.Array) -> Source:
    """An image as the network sees it, and where it shows what may be copied: `surface` without the boxes."""
    if blank:
        image, surface = projection.blank(image, boxes, surface), surface * (1 - boxes)
    return Source(image, surface[..., None], *guides)
