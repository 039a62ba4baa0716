"""What preparation found in a picture, drawn over it: landmarks, mesh, and depth as colour."""

import io
import math

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from talkinghead_jax.geometry import sketch

FOUND, GUESSED = (64, 224, 255), (255, 70, 225)  # landmarks that were found, and those that are interpolated
VISIBLE, HIDDEN = (64, 224, 255), (255, 84, 160)  # parts of the mesh
_BLANK = 128  # where a position map holds nothing: readable on light and on dark pages
# A mesh of many edges must not hide the face: more than few are drawn thinner, more than most are dots.
_FEW_EDGES, _MOST_EDGES, _DOTS = 3000, 20_000, 5000
_FINER = 2  # lines are drawn at this multiple of the size and averaged, since Pillow's have no smooth rims


def jpeg(picture: np.ndarray, quality: int = 85) -> bytes:
    """(H, W, 3) uint8 -> JPEG, its thin coloured lines kept sharp."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, 'JPEG', quality=quality, subsampling=0)
    return buffer.getvalue()


def landmarks(image: np.ndarray, points: np.ndarray, found: bool, size: int) -> np.ndarray:
    """The 68 points joined as the sketch joins them (design, Sec. 4, Theta).

    Args:
      image: (S, S, 3) uint8 crop.
      points: (68, 2 or 3) crop px.
      found: False in another colour: the face was not found here.
      size: side of the result, px.

    Returns:
      (size, size, 3) uint8.
    """
    canvas, mask, pen = _canvas(image, size)
    places = _places(points, canvas)
    for stroke, closed in sketch.STROKES:
        line = [places[i] for i in ((*stroke, stroke[0]) if closed else stroke)]
        pen.line(line, fill=255, width=max(1, round(size / 85)), joint='curve')
    canvas.paste(FOUND if found else GUESSED, mask=mask)
    return _reduced(canvas, size)


def mesh(image: np.ndarray, vertices: np.ndarray, visible: np.ndarray, triangles: np.ndarray,
         size: int) -> np.ndarray:
    """The mesh's edges over the darkened picture, those with a hidden end below and in another colour.

    Args:
      image: (S, S, 3) uint8 crop.
      vertices: (V, 3) crop px.
      visible: (V,) bool.
      triangles: (F, 3) vertex numbers. Vertices of no triangle are dots (MediaPipe's irises), and
        so are some of a mesh as dense as PRNet's.
      size: side of the result, px.

    Returns:
      (size, size, 3) uint8.
    """
    canvas, _, _ = _canvas((image * 0.7).astype(np.uint8), size)
    places = _places(vertices, canvas)
    edges = np.unique(np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])),
                      axis=0)
    alone = np.setdiff1d(np.arange(len(vertices)), edges)
    if len(edges) > _MOST_EDGES:
        edges, alone = edges[:0], np.arange(0, len(vertices), math.ceil(len(vertices) / _DOTS))
    seen = visible[edges].all(axis=1)
    opacity, width = (0.7, 2) if len(edges) < _FEW_EDGES else (0.5, 1)
    for color, lines, dots in ((HIDDEN, edges[~seen], alone[~visible[alone]]),
                               (VISIBLE, edges[seen], alone[visible[alone]])):
        mask = Image.new('L', canvas.size)
        pen = ImageDraw.Draw(mask)
        for a, b in lines.tolist():
            pen.line((places[a], places[b]), fill=round(255 * opacity), width=width)
        for i in dots.tolist():
            x, y = places[i]
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=255)
        canvas.paste(color, mask=mask)
    return _reduced(canvas, size)


def facing(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V, 3) crop px, (F, 3) -> (V,) bool: vertices of a triangle that faces the viewer (`specs.METADATA`)."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    towards = np.cross(b - a, c - a)[:, 2] > 0
    return np.isin(np.arange(len(vertices)), triangles[towards])


def depth(position_map: np.ndarray, mask: np.ndarray, size: int) -> np.ndarray:
    """The z of a position map where it is valid, bright = near, over its own range.

    (S, S, 3) crop px, (S, S) bool -> (size, size, 3) uint8.
    """
    near = position_map[..., 2]
    low, high = near[mask].min(), near[mask].max()
    color = matplotlib.colormaps['viridis'](np.clip((near - low) / max(high - low, 1e-6), 0, 1))[..., :3] * 255
    shown = np.where(mask[..., None], color, _BLANK).astype(np.uint8)
    return np.asarray(Image.fromarray(shown).resize((size, size), Image.Resampling.NEAREST))


def _canvas(image: np.ndarray, size: int) -> tuple[Image.Image, Image.Image, ImageDraw.ImageDraw]:
    """The enlarged picture, a mask of its size, and a pen on the mask."""
    canvas = Image.fromarray(image).resize((_FINER * size,) * 2, Image.Resampling.LANCZOS)
    mask = Image.new('L', canvas.size)
    return canvas, mask, ImageDraw.Draw(mask)


def _places(points: np.ndarray, canvas: Image.Image) -> list[tuple[float, float]]:
    return [tuple(place) for place in sketch.to_pixels(np.asarray(points[:, :2], np.float64), canvas.width).tolist()]


def _reduced(canvas: Image.Image, size: int) -> np.ndarray:
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX))
