"""Expression: a handful of modes that displace the control points of a face. No mode moves a rigid point."""

import numpy as np

from input_pipeline.synthetic.surface import CONTROLS, LOWER_LIP, UPPER_LIP
from talkinghead_jax.geometry import face

MODES = ('jaw', 'width', 'round', 'press', 'blink', 'brow')


def _bump(x: np.ndarray, y: np.ndarray, at: tuple[float, float], spread: tuple[float, float]) -> np.ndarray:
    return np.exp(-0.5 * (((x - at[0]) / spread[0]) ** 2 + ((y - at[1]) / spread[1]) ** 2))


def _lower_lip(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How much of the jaw's drop each point takes part in: 1 at chin and lower lip, 0 at the upper lip and cheeks."""
    below = np.clip((y - 157.3) / 2, 0, 1) * np.exp(-np.maximum(np.abs(x) - 14, 0) ** 2 / 220)
    for weight, points in ((0, (49, 50, 51, 52, 53, 61, 62, 63, *UPPER_LIP)), (0.30, (48, 54)), (0.34, (60, 64)),
                           (0.82, (55, 59)), (0.98, (56, 58)), (1, (57, 66)), (0.74, LOWER_LIP), (0.94, (65, 67)),
                           (1, (8,)), (0.95, (7, 9)), (0.6, (6, 10))):
        below[list(points)] = weight
    below[-26:-13], below[-13:] = 0.9 * below[2:15], 0.6 * below[2:15]  # the throat, in the order of landmarks 2..14
    return below


def _modes() -> np.ndarray:
    """(6, N, 3): displacement in crop px of each control point of the mean face at full strength of each mode."""
    x, y = CONTROLS[:, 0] - face.AXIS_X, CONTROLS[:, 1]
    side = np.sign(x)
    modes = np.zeros((len(MODES), *CONTROLS.shape))
    lower = _lower_lip(x, y)
    modes[0, :, 1] = 15 * lower
    modes[0, :, 2] = -5 * lower
    modes[0, [61, 62, 63, 50, 51, 52], 1] = -1.2  # the upper lip rises a little
    modes[0, UPPER_LIP, 1] = -0.5
    around = _bump(np.abs(x), y, (17, 158.5), (9, 9))
    modes[0, :, 0] = -1.5 * side * around
    mouth = _bump(np.abs(x), y, (0, 158), (24, 10))
    modes[1, :, 0] = 5.0 * side * around
    modes[1, :, 1] = -1.6 * around
    modes[1, :, 2] = -2.5 * around - 0.8 * mouth
    modes[2, :, 0] = -0.36 * x * _bump(np.abs(x), y, (8, 158), (15, 9))
    modes[2, :, 2] = 5.5 * _bump(np.abs(x), y, (0, 158), (15, 8))
    modes[2, [50, 51, 52], 1], modes[2, [56, 57, 58], 1] = -0.8, 1.2
    modes[3, :, 1] = 0.22 * (157.5 - y) * _bump(np.abs(x), y, (0, 158), (20, 8))
    modes[3, :, 2] = -1.8 * _bump(np.abs(x), y, (0, 158), (18, 7))
    _eyelids(modes[4])
    brow = [18, 19, 20, 23, 24, 25]
    modes[5, brow, 1] = -3.5
    modes[5, (y < 80) & (y > 66) & (np.abs(x) < 45), 1] = -2.0
    modes[5, (y > 92) & (y < 97) & (np.abs(x) < 40) & (np.abs(x) > 20), 1] = -1.0
    modes[:, list(face.RIGID_POINTS)] = 0
    return modes


def _eyelids(blink: np.ndarray) -> None:
    """Upper lids come down onto the lower ones, which rise a little; both bulge over the eyeball."""
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        gap = CONTROLS[lower] - CONTROLS[upper]
        blink[upper] = 0.80 * gap + [0, 0, 1.0]
        blink[lower] = -0.13 * gap + [0, 0, 0.6]


DISPLACEMENTS = _modes()  # (6, N, 3) crop px


def express(controls: np.ndarray, activations: np.ndarray) -> np.ndarray:
    """Move a neutral face: (N, 3) and (T, 6) activations, each in [0, 1], in the order of `MODES` -> (T, N, 3).

    Lids close whatever the size of the eye, so `blink` is scaled by the identity's own eye opening.
    """
    activations = np.asarray(activations, np.float64)
    moved = controls + np.einsum('tm,mnc->tnc', activations, DISPLACEMENTS)
    lids = np.array([[37, 41], [38, 40], [43, 47], [44, 46]])
    own = (controls[lids[:, 1]] - controls[lids[:, 0]])[:, 1]
    mean = (CONTROLS[lids[:, 1]] - CONTROLS[lids[:, 0]])[:, 1]
    extra = (own - mean)[None] * activations[:, 4:5]  # (T, 4)
    moved[:, lids[:, 0], 1] += 0.80 * extra
    moved[:, lids[:, 1], 1] -= 0.13 * extra
    return moved
