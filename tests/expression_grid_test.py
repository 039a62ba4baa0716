"""Fig. 7's grid: which frames it shows where, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from talkinghead_jax.errors import UserError
from talkinghead_jax.protocols.showcase import Moments
from talkinghead_jax.report import expression_grid

SIZE = 32


def frames(*values):
    """Grey frames of these values."""
    return np.stack([np.full((8, 8, 3), value, np.uint8) for value in values])


def shown(picture, rows, columns, bottom=0):
    """Grey values at the centres of the cells of the block that ends `bottom` px above the picture's end."""
    height, width = picture.shape[:2]
    y = height - bottom - SIZE * np.arange(rows, 0, -1) + SIZE // 2
    x = width - SIZE * np.arange(columns, 0, -1) + SIZE // 2
    return picture[np.ix_(y, x)][..., 0].tolist()


def test_rows_show_their_frames_under_one_another(tmp_path):
    clips = [Moments('1001 happy', [0, 0.2, 0.4], {'True video': frames(100, 110, 120), 'Φ': frames(50, 60, 70)}),
             Moments('1002 sad', [0, 1], {'True video': frames(200, 240)})]
    path = expression_grid.write(tmp_path / 'deep' / 'grid.png', clips, SIZE)
    picture = np.asarray(Image.open(path))
    assert shown(picture, 1, 3) == [[200, 240, 255]]
    single = expression_grid.draw(clips[:1], SIZE)
    assert shown(single, 2, 3) == [[100, 110, 120], [50, 60, 70]]
    below = len(picture) - len(single)
    assert shown(picture, 2, 3, bottom=below) == shown(single, 2, 3)


def test_labels_are_drawn_left_of_the_frames_of_each_row():
    rows = {'True video': frames(255, 255), 'Φ': frames(254, 254)}
    picture = expression_grid.draw([Moments('a', [0, 1], rows)], SIZE)
    margin = picture[:, :picture.shape[1] - 2 * SIZE]
    assert margin[-SIZE:].min() < 128
    assert margin[-2 * SIZE:-SIZE].min() < 128


@pytest.mark.parametrize(('clips', 'message'), [
    ([], 'found no clip'),
    ([Moments('a', [0], {})], 'clip a has no row'),
    ([Moments('a', [0], {'x': frames(0, 0)})], r'clip a, row x: found frames \(2, 8, 8, 3\)'),
    ([Moments('a', [0], {'x': frames(0) / 255})], r'frames \(1, 8, 8, 3\) of float64; want \(1, S, S, 3\) uint8'),
    ([Moments('a', [0], {'x': frames(0)[0]})], r'found frames \(8, 8, 3\)'),
])
def test_what_is_refused(clips, message):
    with pytest.raises(UserError, match=message):
        expression_grid.draw(clips)
