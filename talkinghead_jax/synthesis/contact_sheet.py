"""The contact sheet: unseen frames of a clip, true above generated, with their scores underneath."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# metric -> (heading, digits after the point), in the order of the columns
COLUMNS = {
    'ssim': ('SSIM', 4), 'psnr': ('PSNR dB', 2), 'lmd': ('LMD px', 2),
    'mouth_correlation': ('mouth r', 3), 'eye_correlation': ('eyes r', 3), 'detected': ('face found', 2),
}
_PAPER, _INK = (255, 255, 255), (24, 28, 34)
_LABELS = ('true', 'generated')


def spread(available: int, count: int) -> np.ndarray:
    """Numbers of at most `count` of `available` frames, evenly spread and each in the middle of its part."""
    count = min(count, available)
    return ((np.arange(count) + 0.5) * available / max(count, 1)).astype(int)


def table(methods: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Scores as text: a heading row, then one row a method; '-' where a method has no such number."""
    shown = {name: column for name, column in COLUMNS.items() if any(name in of for of in methods.values())}
    rows = [['', *(heading for heading, _ in shown.values())]]
    for method, of in methods.items():
        rows.append([method.replace('_', ' '), *(
            f'{of[name]:.{digits}f}' if np.isfinite(of.get(name, np.nan)) else '-'
            for name, (_, digits) in shown.items())])
    return rows


def text(rows: Sequence[Sequence[str]]) -> str:
    """Rows of `table` in aligned columns, the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join('  '.join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in
                                                            zip(row[1:], widths[1:], strict=True))])
                     for row in rows)


def contact_sheet(truth: np.ndarray, generated: np.ndarray, numbers: Sequence[int], rows: Sequence[Sequence[str]],
                  caption: str = '', across: int = 8, cell: int = 160) -> np.ndarray:
    """Draw pairs of frames in bands of `across`, and a table underneath.

    Args:
      truth: (N, H, W, 3) uint8.
      generated: (N, h, w, 3) uint8, of the same moments.
      numbers: (N,) what to write above each pair: the frame's number in its clip.
      rows: of `table`.
      caption: a line above the table.
      across: pairs side by side.
      cell: side of a picture, px.

    Returns:
      (height, width, 3) uint8.

    Raises:
      ValueError: no pair, or truth and generated differ in number.
    """
    if not len(truth) or not len(truth) == len(generated) == len(numbers):
        raise ValueError(f'{len(truth)} true and {len(generated)} generated frames with {len(numbers)} numbers '
                         'are no pairs')
    font = ImageFont.load_default(size=cell / 10)
    line, margin = cell // 7, 5 * cell // 8
    bands = -(-len(truth) // across)
    band_height = line + 2 * cell + line // 2
    below = bands * band_height
    canvas = Image.new('RGB', (margin + across * cell, below + (len(rows) + bool(caption)) * line + line), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for band in range(bands):
        for i, label in enumerate(_LABELS):
            middle = band * band_height + line + (i + 0.5) * cell
            draw.text((margin / 2, middle), label, _INK, font, anchor='mm')
    for i, number in enumerate(numbers):
        band, column = divmod(i, across)
        left, top = margin + column * cell, band * band_height
        draw.text((left + cell / 2, top + line / 2), f'frame {number}', _INK, font, anchor='mm')
        for j, pictures in enumerate((truth, generated)):
            picture = Image.fromarray(pictures[i]).resize((cell, cell), Image.Resampling.BICUBIC)
            canvas.paste(picture, (left, top + line + j * cell))
    top = below + line / 2
    if caption:
        draw.text((margin, top), caption, _INK, font, anchor='lm')
        top += line
    for i, row in enumerate(rows):
        for column, value in enumerate(row):
            right = margin + (2 + column) * cell * 0.75
            place = (margin, 'lm') if column == 0 else (right, 'rm')
            draw.text((place[0], top + i * line), value, _INK, font, anchor=place[1])
    return np.asarray(canvas)
