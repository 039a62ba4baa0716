"""The same moments of several videos, one under another: the comparison of expressions in the paper's Fig. 7."""

import os
import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from talkinghead_jax import files
from talkinghead_jax.errors import UserError
from talkinghead_jax.protocols.showcase import Moments
from talkinghead_jax.report import pictures

_GAP, _SEAM = 16, 2  # px between clips, between frames
_LINE = 1.3  # height of a line of text, in font sizes
_INK, _PALE = '#1f2733', '#667085'


def write(path: str | os.PathLike, clips: Sequence[Moments], size: int = 128) -> pathlib.Path:
    """Write the grid of `draw` as PNG, atomically.

    Raises:
      UserError: as `draw`; or `path` cannot be written.
    """
    path = pathlib.Path(path)
    files.write_atomically(path, pictures.png(draw(clips, size)))
    return path


def draw(clips: Sequence[Moments], size: int = 128) -> np.ndarray:
    """A block a clip under its name; in it a row a method, a column a time (paper, Fig. 7).

    Args:
      clips: each with its own times, rows (the true frames among them) and size of frames.
      size: side of a frame in the picture, px.

    Returns:
      (H, W, 3) uint8.

    Raises:
      UserError: no clip, a clip without rows, or frames of another shape or type.
    """
    if not clips:
        raise UserError('expression grid: found no clip; want one at least')
    for clip in clips:
        _check(clip)
    font, small = (ImageFont.truetype(_font(), share * size) for share in (0.115, 0.1))
    margin = max(round(font.getlength(label)) for clip in clips for label in clip.rows) + round(0.2 * size)
    bar = round(_LINE * (font.size + small.size) + 0.06 * size)
    heights = [bar + size * len(clip.rows) for clip in clips]
    columns = max(len(clip.seconds) for clip in clips)
    canvas = Image.new('RGB', (margin + columns * size, sum(heights) + _GAP * (len(clips) - 1)), 'white')
    pen, top = ImageDraw.Draw(canvas), 0
    for clip, height in zip(clips, heights, strict=True):
        pen.text((0.06 * size, top), clip.clip_id, _INK, font)
        for i, second in enumerate(clip.seconds):
            where = margin + (i + 0.5) * size, top + bar - 0.03 * size
            pen.text(where, f'{second:.2f} s', _PALE, small, anchor='md')
        for j, (label, frames) in enumerate(clip.rows.items()):
            y = top + bar + j * size
            pen.text((margin - 0.1 * size, y + size / 2), label, _INK, font, anchor='rm')
            for i, frame in enumerate(frames):
                canvas.paste(Image.fromarray(pictures.enlarge(frame, size - _SEAM)), (margin + i * size, y))
        top += height + _GAP
    return np.asarray(canvas)


def _font() -> str:
    """A font that comes with matplotlib: Pillow's own has no Greek letters, and methods are called by them."""
    return str(pathlib.Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf')


def _check(clip: Moments) -> None:
    if not clip.rows:
        raise UserError(f'expression grid: clip {clip.clip_id} has no row; want the true frames and those of each '
                        'method')
    for label, frames in clip.rows.items():
        shape, want = np.shape(frames), len(clip.seconds)
        if len(shape) != 4 or shape[0] != want or shape[3] != 3 or np.asarray(frames).dtype != np.uint8:
            raise UserError(f'expression grid: clip {clip.clip_id}, row {label}: found frames {shape} of '
                            f'{np.asarray(frames).dtype}; want ({want}, S, S, 3) uint8')
