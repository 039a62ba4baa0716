"""A trained stage on held-out examples, beside its trivial baselines.

Streaming: one pass over the batches, float64 sums on the host, padding examples left out. What a metric means
is the stage's business (`stages/base.py`); here is only the counting, and the one metric that needs a landmark
detector, which the caller hands in.
"""

import dataclasses
import functools
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from talkinghead_jax import files, specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics import landmark
from talkinghead_jax.pixels import to_uint8, upscale
from talkinghead_jax.stages.base import Stage

MODEL = 'model'
DETECTED_LMD = 'lmd@mean20-mediapipe'
DETECTION_FAILURE = 'detection_failure'
NEEDS_DETECTOR = 'not computed: needs face_landmarker.task'
_SHOWN = ('uv_mask',)  # fields of `frozen` that the report needs to draw examples


@dataclasses.dataclass
class Evaluation:
    """What one stage reached.

    Attributes:
      stage: its name.
      n: number of examples.
      means: method -> metric -> mean over the examples; methods are 'model' and the baselines.
      per_example: method -> metric -> (n,) float64, in the order of the batches.
      notes: metric -> what the reader must know about it.
      examples: the first batch: {'batch': fields, 'outputs': {method: outputs}, 'frozen': fields}.
      step: training step of the evaluated parameters; -1 where unknown.
      digest: of the evaluated parameters; '' where unknown.
    """

    stage: str
    n: int
    means: dict[str, dict[str, float]]
    per_example: dict[str, dict[str, np.ndarray]]
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    examples: dict[str, Any] = dataclasses.field(default_factory=dict)
    step: int = -1
    digest: str = ''

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the baselines."""
        return tuple(name for name in self.means if name != MODEL)

    def as_dict(self) -> dict[str, Any]:
        """{'n', 'step', 'digest', 'methods': {method: {metric: mean}}, 'notes'}: what the report's JSON holds."""
        return {'n': self.n, 'step': self.step, 'digest': self.digest, 'methods': self.means, 'notes': self.notes}


def evaluate(
    stage: Stage,
    inference: Any,
    frozen: Mapping[str, Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    progress: Callable[[Iterable], Iterable] | None = None,
    detector: specs.Detector | None = None,
    step: int = -1,
) -> Evaluation:
    """Run `stage` and its baselines over `batches`.

    Args:
      stage: the stage.
      inference: anything with `params` and `model_state`, both by player (`train.checkpoint.Inference`).
      frozen: arrays that the stage names in `frozen_fields`.
      batches: finite; NumPy batches of the stage's spec. Examples whose `mask` is False do not count.
      progress: wraps the iterator, as `tqdm.tqdm` does.
      detector: landmark detector, for the stage that outputs 'image'; without one its LMD is not computed.
      step: training step of the parameters, kept for the record.

    Raises:
      UserError: there is not one example.
    """
    run = jax.jit(functools.partial(_evaluate_batch, stage))
    sums = _Collector()
    examples: dict[str, Any] = {}
    draws_images = False
    for batch in progress(batches) if progress else batches:
        real = np.asarray(batch['mask'], bool)
        outputs, values = run(inference.params, inference.model_state, dict(frozen), dict(batch))
        draws_images = 'image' in outputs[MODEL]
        values = {method: {name: np.asarray(x) for name, x in of.items()} for method, of in values.items()}
        if draws_images and detector is not None:
            for method, found in _detected_lmd(detector, outputs, batch['target'], real).items():
                values[method].update(found)
        sums.add(values, real)
        if not examples and real.any():
            examples = _examples(batch, outputs, frozen, real)
    if not sums.n:
        raise UserError(f'evaluation of {stage.name}: found no example in the split, want at least one')
    notes = _detector_notes(sums, detector) if draws_images else {}
    return Evaluation(stage.name, sums.n, sums.means(), sums.per_example(), notes, examples, step,
                      getattr(inference, 'digest', ''))


def _evaluate_batch(stage: Stage, params: Any, model_state: Any, frozen: Any, batch: Any) -> tuple[dict, dict]:
    """Outputs and metrics of the model and every baseline; one program, so that shared work is done once."""
    outputs = {MODEL: stage.predict(params, model_state, frozen, batch), **stage.baselines(batch, frozen)}
    return outputs, {method: stage.metrics(out, batch, frozen) for method, out in outputs.items()}


def _examples(batch: Mapping, outputs: Mapping, frozen: Mapping, real: np.ndarray) -> dict[str, Any]:
    kept = jax.tree.map(lambda x: np.asarray(x)[real], {'batch': dict(batch), 'outputs': dict(outputs)})
    return {**kept, 'frozen': {name: np.asarray(frozen[name]) for name in _SHOWN if name in frozen}}


class _Collector:
    """Per-example values in float64; 8 bytes a value is all that grows with the split."""

    def __init__(self) -> None:
        self.n = 0
        self._parts: dict[str, dict[str, list[np.ndarray]]] = {}

    def add(self, values: Mapping[str, Mapping[str, np.ndarray]], real: np.ndarray) -> None:
        self.n += int(real.sum())
        for method, of in values.items():
            for name, value in of.items():
                self._parts.setdefault(method, {}).setdefault(name, []).append(value.astype(np.float64)[real])

    def per_example(self) -> dict[str, dict[str, np.ndarray]]:
        """The model first; `jit` returned the methods in the order of the alphabet."""
        return {method: {name: np.concatenate(parts) for name, parts in self._parts[method].items()}
                for method in sorted(self._parts, key=lambda method: (method != MODEL, method))}

    def means(self) -> dict[str, dict[str, float]]:
        # A value that is NaN is meant to show, except where "no face found" says that there is none.
        return {method: {name: _mean(values[~np.isnan(values)] if name == DETECTED_LMD else values)
                         for name, values in of.items()}
                for method, of in self.per_example().items()}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float('nan')


def _detected_lmd(
    detector: specs.Detector, outputs: Mapping[str, Mapping[str, Any]], target: np.ndarray, real: np.ndarray,
) -> dict[str, dict[str, np.ndarray]]:
    """`lmd@mean20-mediapipe`, (B,) px at 256 px, NaN where a face was missed; and where that happened."""
    true_landmarks, true_found = detector(upscale(np.asarray(target)[real], specs.CROP_SIZE))
    values = {}
    for method, out in outputs.items():
        if 'image' not in out:
            continue
        landmarks, found = detector(upscale(to_uint8(np.asarray(out['image'])[real]), specs.CROP_SIZE))
        distance, failure = np.full(len(real), np.nan), np.zeros(len(real))
        apart = landmark.of_detections(landmarks, true_landmarks)['mean20']
        distance[real] = np.where(found & true_found, apart, np.nan)
        failure[real] = ~np.asarray(found, bool)
        values[method] = {DETECTED_LMD: distance, DETECTION_FAILURE: failure}
    return values


def _detector_notes(sums: _Collector, detector: specs.Detector | None) -> dict[str, str]:
    if detector is None:
        return {DETECTED_LMD: NEEDS_DETECTOR}
    compared = int((~np.isnan(sums.per_example()[MODEL][DETECTED_LMD])).sum())
    return {DETECTED_LMD: f'over the {compared} of {sums.n} frames where a face was found in both the generated '
                          'and the true frame; not comparable with values from other detectors'}


def save(directory: str | os.PathLike, evaluation: Evaluation) -> None:
    """Write {directory}/{stage}.json and {stage}.npz, each atomically; `load` reads them back."""
    arrays = flatten_dict({'per_example': evaluation.per_example, 'examples': evaluation.examples}, sep='/')
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    folder = pathlib.Path(directory)
    files.write_atomically(folder / f'{evaluation.stage}.npz', buffer.getvalue())
    files.write_atomically(folder / f'{evaluation.stage}.json', files.to_json(evaluation.as_dict()))


def load(directory: str | os.PathLike, stage: str) -> Evaluation | None:
    """What `save` wrote of the stage called `stage`, or None where there is nothing or only half of it."""
    folder = pathlib.Path(directory)
    try:
        summary = json.loads((folder / f'{stage}.json').read_text())
        with np.load(folder / f'{stage}.npz') as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError):
        return None
    means = {method: {name: float('nan') if value is None else value for name, value in of.items()}
             for method, of in summary['methods'].items()}
    tree = unflatten_dict(arrays, sep='/')
    return Evaluation(stage, summary['n'], means, tree.get('per_example', {}), summary['notes'],
                      tree.get('examples', {}), summary['step'], summary.get('digest', ''))
