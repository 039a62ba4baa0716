"""Paint: the texture of a face on its UV grid, with holes at eyes and mouth, and the texture of its eyes."""

import cv2
import numpy as np

from input_pipeline.synthetic.identity import Identity
from input_pipeline.synthetic.surface import CONTROL_UV, HULL, LOWER_LIP, UPPER_LIP, position_map, surface_vertices
from talkinghead_jax.geometry.face import AXIS_X

# Control points along the upper and the lower edge of the lips' opening, right to left.
_MOUTH_SLIT = ([60, UPPER_LIP[0], 61, 62, 63, UPPER_LIP[1], 64], [60, LOWER_LIP[0], 67, 66, 65, LOWER_LIP[1], 64])
EYE_TEXTURE_SHARE = 4  # the eye's texture is this many times smaller than the face's, and lies to its right


def make_texture(identity: Identity, size: int) -> np.ndarray:
    """The atlas (size, size + size / 4, 4) float32: RGB in [0, 255], alpha in [0, 1]; the face, then one eye."""
    small = size // EYE_TEXTURE_SHARE
    atlas = np.ones((size, size + small, 4), np.float32)
    atlas[:, :size] = _face(identity, size)
    atlas[:small, size:, :3] = _eye(identity, small)
    return atlas


def _contour(points: list[int], size: int, closed: bool, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    """Smooth curve (M, 2) in texels through landmarks (Catmull-Rom), moved by `shift` texels of a 256 texture."""
    knots = CONTROL_UV[points] * (size - 1) + np.array(shift) * size / 256
    ends = [knots[-1:], knots[:2]] if closed else [2 * knots[:1] - knots[1:2], 2 * knots[-1:] - knots[-2:-1]]
    p = np.concatenate([ends[0], knots, ends[1]])
    t = np.linspace(0, 1, 8, endpoint=False)[:, None, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t ** 2 + (3 * b - a - 3 * c + d) * t ** 3)
    curve = curve.transpose(1, 0, 2).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-1:]])


def _fill(curve: np.ndarray, size: int, blur: float = 0.0) -> np.ndarray:
    """(size, size) float32 mask of a closed curve; blur in texels of a 256 texture."""
    mask = np.zeros((size, size), np.float32)
    cv2.fillPoly(mask, [np.round(curve * 16).astype(np.int32)], 1.0, cv2.LINE_8, 4)
    return _soften(mask, blur)


def _stroke(curve: np.ndarray, size: int, width: float, blur: float) -> np.ndarray:
    """(size, size) float32 mask of an open curve; width and blur in texels of a 256 texture."""
    mask = np.zeros((size, size), np.float32)
    thick = max(1, round(width * size / 256))
    cv2.polylines(mask, [np.round(curve * 16).astype(np.int32)], False, 1.0, thick, cv2.LINE_8, 4)
    return _soften(mask, blur)


def _soften(mask: np.ndarray, blur: float) -> np.ndarray:
    deviation = blur * len(mask) / 256
    return cv2.GaussianBlur(mask, (0, 0), deviation) if deviation > 0.2 else mask


def _noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise (size, size) of unit deviation, with about `cells` features along each side."""
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _face(identity: Identity, size: int) -> np.ndarray:
    rng = np.random.default_rng(identity.texture_seed)
    places = position_map(surface_vertices(identity.controls))
    places = cv2.resize(places, (size, size), interpolation=cv2.INTER_LINEAR)
    x, y = np.abs(places[..., 0] - AXIS_X), places[..., 1]
    colour = np.empty((size, size, 3), np.float32)
    colour[:] = identity.skin
    colour *= 1 + 0.025 * _noise(rng, size, 9)[..., None] + 0.015 * _noise(rng, size, 64)[..., None]
    _complexion(colour, identity, rng, x, y)
    _features(colour, identity, rng)
    middle = HULL.mean(axis=0)
    outline = ((HULL - middle) * 0.965 + middle)[:, 0] * (size - 1)  # smoother than the grid's own steps
    alpha = _fill(outline, size, 1.0)
    upper, lower = _MOUTH_SLIT
    for hole in (list(range(36, 42)), list(range(42, 48)), upper + lower[-2:0:-1]):
        alpha -= _fill(_contour(hole, size, closed=True), size, 0.5)
    return np.concatenate([colour.clip(0, 255), alpha[..., None].clip(0, 1)], axis=-1)


def _bump(x: np.ndarray, y: np.ndarray, at: tuple[float, float], spread: tuple[float, float]) -> np.ndarray:
    return np.exp(-0.5 * (((x - at[0]) / spread[0]) ** 2 + ((y - at[1]) / spread[1]) ** 2))


def _complexion(colour: np.ndarray, identity: Identity, rng: np.random.Generator, x: np.ndarray,
                y: np.ndarray) -> None:
    """Blush, occlusion, wrinkles, freckles and stubble; x is the distance from the middle line, crop px."""
    blush = 0.7 * _bump(x, y, (32, 126), (11, 9)) + 0.6 * _bump(x, y, (0, 132), (9, 7))
    colour *= 1 - blush[..., None] * np.array([0.0, 0.09, 0.09], np.float32)
    shade = 0.16 * _bump(x, y, (22, 99), (14, 9)) + 0.15 * _bump(x, y, (10, 101), (5, 8))
    shade += 0.22 * _bump(x, y, (0, 144), (12, 3)) + 0.15 * _bump(x, y, (0, 172), (12, 4))
    shade += 0.18 * _bump(x, y, (16, 137), (3, 6)) + 0.10 * _bump(x, y, (22, 110), (9, 3))
    shade += 0.30 * np.clip((y - 190) / 14, 0, 1)  # under the jaw
    folds = _bump(x + 0.55 * (146 - y), y, (22, 146), (1.6, 8)) + 0.6 * _bump(x, y, (5, 92), (1.2, 4))
    forehead = np.clip(np.sin((y + 0.02 * x ** 1.5) * 0.75) - 0.55, 0, 1) * _bump(x, y, (0, 66), (26, 11))
    feet = np.clip(np.sin(np.arctan2(y - 103, x - 34) * 14), 0, 1) * _bump(x, y, (42, 103), (4, 6))
    shade += identity.wrinkles * (0.30 * folds + 0.35 * forehead + 0.25 * feet) + 0.08 * folds
    colour *= 1 - shade[..., None].clip(0, 0.8)
    specks = np.clip(_noise(rng, len(x), 110) - 1.1, 0, 1) * (_bump(x, y, (24, 122), (18, 11)))
    colour *= 1 - 0.45 * identity.freckles * specks[..., None] * np.array([0.6, 1.0, 1.1], np.float32)
    beard = np.clip((y - 143) / 12, 0, 1) * np.clip((y - 150 + 0.9 * (x - 4)) / 16, 0, 1)
    beard = np.maximum(beard, _bump(x, y, (0, 147), (17, 3.5)))
    beard = beard * (0.75 + 0.25 * _noise(rng, len(x), min(len(x), 128)))
    colour -= (identity.stubble * 0.55 * beard.clip(0, 1.2))[..., None] * (colour - identity.hair)


def _features(colour: np.ndarray, identity: Identity, rng: np.random.Generator) -> None:
    """Lips, nostrils, brows and lashes, placed by the UV positions of the landmarks."""
    size = len(colour)

    def blend(mask: np.ndarray, paint: np.ndarray) -> None:
        colour[:] += mask[..., None].clip(0, 1) * (np.asarray(paint, np.float32) - colour)

    lips = identity.lips * (1 + 0.05 * rng.standard_normal(3))
    blend(0.9 * _fill(_contour(list(range(48, 60)), size, closed=True), size, 1.2), lips)
    seam = [_contour(points, size, closed=False) for points in _MOUTH_SLIT]
    blend(0.55 * _stroke(seam[0], size, 3, 1.5) + 0.35 * _stroke(seam[1], size, 2, 1.5), 0.35 * lips)
    for nostril in ([31, 32], [35, 34]):
        curve = CONTROL_UV[nostril] * (size - 1) + np.array([0, -1.0]) * size / 256
        blend(0.8 * _stroke(curve, size, 5, 1.6), 0.22 * identity.skin)
    hairs = np.clip(0.9 + 0.12 * _noise(rng, size, min(size, 150)), 0, 1)
    for brow in (range(17, 22), range(22, 27)):
        curve = _contour(list(brow), size, False, (0, 1.5))
        blend(0.88 * hairs * _stroke(curve, size, 2.1 * identity.brow_width, 1.1), identity.brows)
    for upper, lower in (([36, 37, 38, 39], [36, 41, 40, 39]), ([42, 43, 44, 45], [42, 47, 46, 45])):
        blend(0.35 * _stroke(_contour(upper, size, False, (0, -8)), size, 2, 1.2), 0.4 * identity.skin)
        blend(0.9 * _stroke(_contour(upper, size, False, (0, -1)), size, 3, 0.8), [22, 16, 14])
        blend(0.45 * _stroke(_contour(lower, size, False, (0, 1)), size, 2, 0.8), 0.3 * identity.skin)


def _eye(identity: Identity, size: int) -> np.ndarray:
    """(size, size, 3): the front of an eyeball, 2.5 rad across; iris, pupil, and darker rims."""
    steps = np.linspace(-1, 1, size)
    radius = 1.25 * np.hypot(*np.meshgrid(steps, steps))[..., None]
    angle = np.arctan2(*np.meshgrid(steps, steps))[..., None]

    def within(r: float) -> np.ndarray:
        return np.clip((r - radius) * size / 4 + 0.5, 0, 1)

    white = np.array([214, 206, 202]) * (1 - 0.5 * np.clip(radius - 0.45, 0, 1))
    iris = identity.iris * (0.9 + 0.25 * np.cos(17 * angle) * 0.4 + 0.5 * (0.42 - radius))
    eye = white + within(0.46) * (0.45 * identity.iris - white)
    eye = eye + within(0.40) * (iris - eye)
    return (eye + within(0.17) * (np.array([12, 10, 10]) - eye)).astype(np.float32)
