"""Fig. 7's grid: which frames it shows where, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from talkinghead_jax.errors import UserError
from talkinghead_jax.report import expression_grid

SIZE = 32


def film(frames, first):
    """Frame t is grey of value `first` + t."""
    return np.full((frames, 8, 8, 3), first, np.uint8) + np.arange(frames, dtype=np.uint8)[:, None, None, None]


def shown(picture, rows, columns, bottom=0):
    """Grey values at the centres of the cells of the block that ends `bottom` px above the picture's end."""
    height, width = picture.shape[:2]
    y = height - bottom - SIZE * np.arange(rows, 0, -1) + SIZE // 2
    x = width - SIZE * np.arange(columns, 0, -1) + SIZE // 2
    return picture[np.ix_(y, x)][..., 0].tolist()


def test_rows_show_the_same_moments_spread_over_the_shortest_video(tmp_path):
    clips = [('1001 happy', {'True video': film(31, 100), 'Ours (pose of Φ)': film(21, 50)}),
             ('1002 sad', {'True video': film(41, 200)})]
    path = expression_grid.write(tmp_path / 'deep' / 'grid.png', clips, columns=5, size=SIZE)
    picture = np.asarray(Image.open(path))
    assert shown(picture, 1, 5) == [[200, 210, 220, 230, 240]]
    single = expression_grid.draw(clips[:1], columns=5, size=SIZE)
    assert shown(single, 2, 5) == [[100, 105, 110, 115, 120], [50, 55, 60, 65, 70]]
    below = len(picture) - len(single)
    assert shown(picture, 2, 5, bottom=below) == shown(single, 2, 5)


def test_labels_are_drawn_left_of_the_frames_of_each_row():
    picture = expression_grid.draw([('a', {'True video': film(2, 255), 'Φ': film(2, 254)})], columns=2, size=SIZE)
    margin = picture[:, :picture.shape[1] - 2 * SIZE]
    assert margin[-SIZE:].min() < 128
    assert margin[-2 * SIZE:-SIZE].min() < 128


def test_a_short_clip_shows_each_frame_once():
    assert expression_grid.times(3, 8) == [0, 1, 2]
    assert expression_grid.times(1, 8) == [0]
    picture = expression_grid.draw([('a', {'x': film(2, 7)})], columns=4, size=SIZE)
    assert shown(picture, 1, 4) == [[7, 8, 255, 255]]


@pytest.mark.parametrize(('clips', 'message'), [
    ([], 'found no clip'),
    ([('a', {})], 'clip a has no row'),
    ([('a', {'x': film(0, 0)})], r'clip a, row x: found frames \(0, 8, 8, 3\)'),
    ([('a', {'x': film(2, 0) / 255})], r'found frames \(2, 8, 8, 3\) of float64; want \(N, S, S, 3\) uint8'),
    ([('a', {'x': film(2, 0)[0]})], r'found frames \(8, 8, 3\)'),
])
def test_what_is_refused(clips, message):
    with pytest.raises(UserError, match=message):
        expression_grid.draw(clips)
