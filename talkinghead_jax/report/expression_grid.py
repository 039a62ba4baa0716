"""The same moments of several videos, one under another: the comparison of expressions in the paper's Fig. 7."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from talkinghead_jax import files, specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.report import pictures

Clip = tuple[str, Mapping[str, np.ndarray]]  # its name; row label -> (N, S, S, 3) uint8 frames

_GAP, _SEAM = 16, 2  # px between clips, between frames
_LINE = 1.3  # height of a line of text, in font sizes
_INK, _PALE = '#1f2733', '#667085'


def write(path: str | os.PathLike, clips: Sequence[Clip], *, columns: int = 8, size: int = 128) -> pathlib.Path:
    """Write the grid of `draw` as PNG, atomically.

    Raises:
      UserError: as `draw`; or `path` cannot be written.
    """
    path = pathlib.Path(path)
    files.write_atomically(path, pictures.png(draw(clips, columns=columns, size=size)))
    return path


def draw(clips: Sequence[Clip], *, columns: int = 8, size: int = 128) -> np.ndarray:
    """A block a clip under its name; in it a row a method, a column a time (paper, Fig. 7).

    Args:
      clips: name of the clip, and row label -> (N, S, S, 3) uint8 frames at 25 fps, the true ones as a row among
        them. The times are evenly spread over the shortest video of the clip, first and last frame among them;
        clips may have other rows and sizes than each other.
      columns: frames of each row; fewer where a clip has fewer.
      size: side of a frame in the picture, px.

    Returns:
      (H, W, 3) uint8.

    Raises:
      UserError: no clip, a clip without rows, or frames of another shape or type.
    """
    if not clips:
        raise UserError('expression grid: found no clip; want one at least')
    for name, rows in clips:
        _check(name, rows)
    font, small = (ImageFont.truetype(_font(), share * size) for share in (0.115, 0.1))
    margin = max(round(font.getlength(label)) for _, rows in clips for label in rows) + round(0.2 * size)
    bar = round(_LINE * (font.size + small.size) + 0.06 * size)
    heights = [bar + size * len(rows) for _, rows in clips]
    canvas = Image.new('RGB', (margin + columns * size, sum(heights) + _GAP * (len(clips) - 1)), 'white')
    pen, top = ImageDraw.Draw(canvas), 0
    for (name, rows), height in zip(clips, heights, strict=True):
        moments = times(min(len(frames) for frames in rows.values()), columns)
        pen.text((0.06 * size, top), name, _INK, font)
        for i, moment in enumerate(moments):
            time = f'{moment / specs.FRAME_RATE:.2f} s'
            pen.text((margin + (i + 0.5) * size, top + bar - 0.03 * size), time, _PALE, small, anchor='md')
        for j, (label, frames) in enumerate(rows.items()):
            y = top + bar + j * size
            pen.text((margin - 0.1 * size, y + size / 2), label, _INK, font, anchor='rm')
            for i, moment in enumerate(moments):
                canvas.paste(Image.fromarray(pictures.enlarge(frames[moment], size - _SEAM)), (margin + i * size, y))
        top += height + _GAP
    return np.asarray(canvas)


def _font() -> str:
    """A font that comes with matplotlib: Pillow's own has no Greek letters, and methods are called by them."""
    return str(pathlib.Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf')


def times(frames: int, columns: int) -> list[int]:
    """At most `columns` different frame numbers, evenly spread from the first to the last of `frames`."""
    return sorted(set(np.linspace(0, frames - 1, columns).round().astype(int).tolist()))


def _check(name: str, rows: Mapping[str, np.ndarray]) -> None:
    if not rows:
        raise UserError(f'expression grid: clip {name} has no row; want the true frames and those of each method')
    for label, frames in rows.items():
        shape = np.shape(frames)
        if len(shape) != 4 or shape[0] == 0 or shape[3] != 3 or np.asarray(frames[:1]).dtype != np.uint8:
            raise UserError(f'expression grid: clip {name}, row {label}: found frames {shape} of '
                            f'{np.asarray(frames[:1]).dtype}; want (N, S, S, 3) uint8')
