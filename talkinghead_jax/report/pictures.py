"""Picture grids of the report: faces as pixels, without a plotting library around them."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from talkinghead_jax import specs
from talkinghead_jax.evaluation import MODEL
from talkinghead_jax.pixels import to_uint8

SIZE = 192  # side of a picture that is drawn on; others keep theirs, and the page scales them
Column = tuple[str, list[np.ndarray]]  # heading, one (H, W, 3) uint8 picture a row


def png(picture: np.ndarray) -> bytes:
    """(H, W, 3) uint8 -> PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, 'PNG')
    return buffer.getvalue()


def enlarge(picture: np.ndarray, size: int = SIZE) -> np.ndarray:
    """(H, W, 3) uint8 to size x size."""
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS))


def data_url(content: bytes, kind: str = 'image/png') -> str:
    """A file as a URL that holds it, so that a page needs no other file."""
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def grid(columns: Mapping[str, np.ndarray], size: int = SIZE, bar: int = 28) -> np.ndarray:
    """Pictures of one size as a table, enlarged, each column under its heading.

    Args:
      columns: heading -> (rows, H, W, 3) uint8.
      size: side of each picture in the grid, px.
      bar: height of the headings, px.

    Returns:
      (bar + rows size, columns size, 3) uint8.
    """
    rows = len(next(iter(columns.values())))
    canvas = Image.new('RGB', (size * len(columns), bar + size * rows), 'white')
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=0.6 * bar)
    for i, (heading, shown) in enumerate(columns.items()):
        draw.text(((i + 0.5) * size, bar / 2), heading, 'black', font, anchor='mm')
        for j, picture in enumerate(shown):
            canvas.paste(Image.fromarray(enlarge(picture, size)), (i * size, bar + j * size))
    return np.asarray(canvas)


def generator(examples: Mapping[str, Any], count: int = 6) -> list[Column]:
    """Reference, 3-D render, matched reference, result and truth; a row an example."""
    batch, outputs = examples['batch'], examples['outputs'][MODEL]
    columns = [
        ('reference', batch['references'][:count, 0]),
        ('3-D render', to_uint8(outputs['render'][:count])),
        ('matched reference', to_uint8(outputs['matched'][:count])),
        ('result', to_uint8(outputs['image'][:count])),
        ('truth', batch['target'][:count]),
    ]
    return [(heading, list(pictures)) for heading, pictures in columns]


def unprojection(examples: Mapping[str, Any], count: int = 4) -> list[Column]:
    """Picture, position maps as colour, their points over the face, and the error; a row an example."""
    images = examples['batch']['image'][:count]
    truths = examples['batch']['position_map'][:count]
    predictions = examples['outputs'][MODEL]['position_map'][:count]
    mask = examples['frozen'].get('uv_mask', np.ones(truths.shape[1:3])) > 0
    columns: dict[str, list[np.ndarray]] = {}
    for image, truth, predicted in zip(images, truths, predictions, strict=True):
        low, high = truth[mask].min(axis=0), truth[mask].max(axis=0)
        cells = {
            'picture': image,
            'true map': _map_as_color(truth, mask, low, high),
            'predicted map': _map_as_color(predicted, mask, low, high),
            'true points': _points_over(image, truth[mask]),
            'predicted points': _points_over(image, predicted[mask]),
            f'error (0–{ERROR_RANGE} px)': _error_as_color(predicted - truth, mask),
        }
        for heading, cell in cells.items():
            columns.setdefault(heading, []).append(cell)
    return list(columns.items())


ERROR_RANGE = 10  # px: the brightest colour of the error picture
_BLANK = 128  # what is no part of the map: readable on light and on dark pages


def _map_as_color(positions: np.ndarray, mask: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    color = np.clip((positions - low) / np.maximum(high - low, 1e-6), 0, 1) * 255
    return np.where(mask[..., None], color, _BLANK).astype(np.uint8)


def _error_as_color(difference: np.ndarray, mask: np.ndarray) -> np.ndarray:
    error = np.clip(np.linalg.norm(difference, axis=-1) / ERROR_RANGE, 0, 1)
    return np.where(mask[..., None], _colormap('magma', error), _BLANK).astype(np.uint8)


def _colormap(name: str, values: np.ndarray) -> np.ndarray:
    return matplotlib.colormaps[name](values)[..., :3] * 255


def _points_over(image: np.ndarray, points: np.ndarray, shown: int = 700) -> np.ndarray:
    """Draw some of (V, 3) crop-px points, the near ones last and brighter, on the darkened image."""
    canvas = (enlarge(image) * 0.55).astype(np.uint8)
    points = points[::max(1, len(points) // shown)]
    points = points[np.argsort(points[:, 2], kind='stable')]
    depth = (points[:, 2] - points[:, 2].min()) / max(np.ptp(points[:, 2]), 1e-6)
    color = _colormap('viridis', depth).astype(np.uint8)
    column, row = np.round((points[:, :2] + 0.5) * SIZE / specs.CROP_SIZE - 0.5).astype(int).T
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y, x = row + down, column + right
        inside = (y >= 0) & (y < SIZE) & (x >= 0) & (x < SIZE)
        canvas[y[inside], x[inside]] = color[inside]
    return canvas
