"""What each metric is called, what it measures, and which way is better."""

import dataclasses
import math
from collections.abc import Mapping

from talkinghead_jax.protocols.recipes import HIGHER, LOWER, NEAR_ONE, NEAR_ZERO, NEITHER

ARROWS: Mapping[str, str] = {LOWER: '↓', HIGHER: '↑', NEAR_ONE: '→ 1', NEAR_ZERO: '→ 0', NEITHER: ''}


@dataclasses.dataclass(frozen=True)
class Metric:
    """How a metric is shown: `better` is 'lower', 'higher', 'near 1', 'near 0' or '' (only to compare with)."""

    unit: str
    better: str
    meaning: str

    def badness(self, value: float) -> float:
        """A number that is smaller where `value` is better; infinite where there is no value."""
        if not math.isfinite(value) or self.better == NEITHER:
            return math.inf
        return {LOWER: value, HIGHER: -value, NEAR_ONE: abs(value - 1), NEAR_ZERO: abs(value)}[self.better]


METRICS: Mapping[str, Metric] = {
    'lmd': Metric('px', LOWER, 'lmd@mean20: mean 2-D distance of the 20 mouth points about their own centroid, in '
                               'pixels of the 256 px crop'),
    'lmd_noisy': Metric('px', LOWER, 'the same where noise is added to the speech (by default babble at 6 dB)'),
    'mouth_error': Metric('px', LOWER, 'mean 3-D distance of the 20 mouth points, in pixels of the 256 px crop'),
    'opening_correlation': Metric('', HIGHER, 'correlation over time of predicted and true mouth opening'),
    'rotation_deg': Metric('°', LOWER, 'mean angle between predicted and true head rotation'),
    'translation_px': Metric('px', LOWER, 'mean distance between predicted and true head position'),
    'pose_error': Metric('', LOWER, 'mean distance of poses, each axis in units of its deviation in the dataset'),
    'amplitude_ratio': Metric('', NEAR_ONE, 'predicted over true standard deviation over time; 0 is a still head'),
    'amplitude_error': Metric('', LOWER, 'how far the amplitudes of the six axes are from the speaker’s own; 1 is a '
                                           'still head'),
    'velocity_ratio': Metric('', NEAR_ONE, 'predicted over true speed; above 1 is restless, below 1 sluggish'),
    'velocity_distance': Metric('', LOWER, 'Wasserstein distance of the distributions of speed, in true mean speeds; '
                                           '1 is a still head'),
    'jerk_distance': Metric('', LOWER, 'Wasserstein distance of the distributions of jerk, in true mean jerks; 1 is '
                                       'a still head, more shakes'),
    'beat_gain': Metric('', HIGHER, 'alignment of the head’s turns with the peaks of the speech’s energy: 0 is '
                                    'chance, 1 every peak'),
    'correlation': Metric('', HIGHER, 'correlation over time of predicted and true motion'),
    'seam_jump': Metric('', LOWER, 'step where the prediction takes over, in usual steps of this speaker'),
    'style_recovery': Metric('', HIGHER, 'share of motions whose amplitude and speed are nearest to those of their '
                                         'own reference'),
    'style_recovery_with_pose': Metric('', HIGHER, 'the same with the mean pose'),
    'amplitude_correlation': Metric('', HIGHER, 'correlation across people of predicted and true amplitude'),
    'speed_correlation': Metric('', HIGHER, 'correlation across people of predicted and true speed'),
    'diversity': Metric('', NEAR_ONE, 'how much the motions of one person differ between speeches; 1 is independent'),
    'speech_recovery': Metric('', HIGHER, 'share of motions that turn with their own speech more than with another'),
    'beat_alignment': Metric('', HIGHER, 'nearness of the head’s turns to the peaks of the speech’s energy, σ 80 ms'),
    'beat_alignment_others': Metric('', NEITHER, 'the same with the speech of others: its chance level'),
    'vertex_error_percent': Metric('%', LOWER, 'mean distance of the vertices, in percent of the face’s width'),
    'nme_68_percent': Metric('%', LOWER, 'mean 2-D distance of the 68 key points, in percent of the root of their '
                                         'bounding box’s area (PRNet’s measure on AFLW2000-3D)'),
    'ssim': Metric('', HIGHER, 'structural similarity to the true frame'),
    'psnr': Metric('dB', HIGHER, 'peak signal-to-noise ratio to the true frame'),
    'lmd@mean20-mediapipe': Metric('px', LOWER, 'mean distance of the 20 mouth points that MediaPipe finds in the '
                                                'generated and the true frame, upscaled to 256 px'),
    'detection_failure': Metric('', LOWER, 'share of frames in which MediaPipe finds no face'),
}

STAGES: Mapping[str, tuple[str, str]] = {  # title, one line
    'expression': ('Expression Ψ', 'Speech and one reference face to the facial landmarks of each frame.'),
    'head_motion': ('Head motion Φ', 'Speech and a short reference clip to the head pose of each frame.'),
    'unprojection': ('Unprojection', 'One picture to a textured 3-D face.'),
    'generator': ('Generator Θ', 'Landmarks, head pose and reference frames to the video frame.'),
}


def metric(name: str) -> Metric:
    """The entry called `name`; an unknown metric is an error: lower is better, no unit."""
    return METRICS.get(name, Metric('', LOWER, ''))


def stage_title(name: str) -> str:
    """A stage's name as readers see it."""
    return STAGES[name][0] if name in STAGES else name


def best(name: str, values: Mapping[str, float]) -> frozenset[str]:
    """The methods whose value of metric `name` is the best; none where nobody has a value."""
    badness = {method: metric(name).badness(value) for method, value in values.items()}
    least = min(badness.values(), default=math.inf)
    return frozenset(method for method, value in badness.items() if value == least and math.isfinite(least))


def number(value: float | None) -> str:
    """Four significant digits at most, a dash where there is no value."""
    if value is None or not math.isfinite(value):
        return '–'
    return f'{value:.{_digits(value)}f}' if value else '0'


def bounds(mean: float, low: float, high: float) -> tuple[str, str] | None:
    """The bounds of an interval, with the digits of its mean as `number` shows it; None where there are none."""
    if not math.isfinite(low + high):
        return None
    digits = _digits(mean or max(abs(low), abs(high)))
    return f'{low:.{digits}f}', f'{high:.{digits}f}'


def _digits(value: float) -> int:
    """Decimals of a number that has four significant digits at most."""
    return max(0, min(4, 2 - math.floor(math.log10(abs(value))))) if value else 0
