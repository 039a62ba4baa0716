"""The comparison video: reference, true video, 3-D render and result beside each other."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_BAR, _INK = (24, 28, 34), (222, 226, 232)


def side_by_side(columns: Mapping[str, np.ndarray], height: int = 256) -> np.ndarray:
    """Join pictures, each under its caption, scaled to one height.

    Args:
      columns: caption -> (H, W, 3) uint8, any sizes.
      height: of the pictures, px.

    Returns:
      (height + bar, width, 3) uint8; both even, as H.264 wants.
    """
    return np.concatenate([_captioned(caption, picture, height) for caption, picture in columns.items()], axis=1)


def comparison(
    reference: np.ndarray, frames: Iterable[Mapping[str, np.ndarray]], truth: Iterable[np.ndarray] | None = None,
    height: int = 256,
) -> Iterator[np.ndarray]:
    """Frames of the comparison video.

    Args:
      reference: (H, W, 3) uint8, the same throughout.
      frames: of `talking_head.generate_frames`.
      truth: the video that the speech comes from; left out where None. Its last frame is held if it is shorter.
      height: of the pictures, px.

    Yields:
      (height + bar, width, 3) uint8, one for each of `frames`.
    """
    others = None if truth is None else iter(truth)
    shown = None
    for frame in frames:
        columns = {'reference': reference}
        if others is not None:
            shown = next(others, shown)
            if shown is not None:
                columns['speech from'] = shown
        yield side_by_side({**columns, '3-D render': frame['render'], 'result': frame['image']}, height)


def _captioned(caption: str, picture: np.ndarray, height: int) -> np.ndarray:
    width = max(2, 2 * round(picture.shape[1] * height / picture.shape[0] / 2))
    height += height % 2
    bar = max(14, 2 * (height // 24))
    canvas = Image.new('RGB', (width, bar + height), _BAR)
    canvas.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC), (0, bar))
    draw = ImageDraw.Draw(canvas)
    draw.text((width / 2, bar / 2), caption, _INK, ImageFont.load_default(size=0.62 * bar), anchor='mm')
    return np.asarray(canvas)
