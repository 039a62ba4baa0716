"""The contact sheet: where pictures and numbers are, and how scores read."""

import numpy as np
import pytest

from talkinghead_jax.synthesis import contact_sheet

ROWS = contact_sheet.table({'after 9 steps': {'ssim': 0.91239, 'psnr': 21.456, 'lmd': float('nan')},
                            'true_frames': {'mouth_correlation': 0.5}})


def frames(*brightness):
    return np.stack([np.full((8, 8, 3), value, np.uint8) for value in brightness])


def test_frames_are_spread_over_the_whole_part():
    assert contact_sheet.spread(64, 16).tolist() == list(range(2, 64, 4))
    assert contact_sheet.spread(3, 16).tolist() == [0, 1, 2]
    assert contact_sheet.spread(0, 16).tolist() == []


def test_table_has_a_column_for_every_known_number():
    assert ROWS == [['', 'SSIM', 'PSNR dB', 'LMD px', 'mouth r'],
                    ['after 9 steps', '0.9124', '21.46', '-', '-'],
                    ['true frames', '-', '-', '-', '0.500']]
    lines = contact_sheet.text(ROWS).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == 'after 9 steps  0.9124    21.46       -        -'


def test_each_true_frame_lies_above_the_generated_one():
    cell, across = 40, 2
    truth, generated = frames(10, 20, 30), frames(110, 120, 130)
    sheet = contact_sheet.contact_sheet(truth, generated, [5, 6, 7], ROWS, across=across, cell=cell)
    assert sheet.dtype == np.uint8
    line, margin = cell // 7, 5 * cell // 8
    band = line + 2 * cell + line // 2
    for i in range(3):
        top, left = i // across * band + line, margin + i % across * cell
        np.testing.assert_array_equal(sheet[top:top + cell, left:left + cell], truth[i, 0, 0, 0])
        np.testing.assert_array_equal(sheet[top + cell:top + 2 * cell, left:left + cell], generated[i, 0, 0, 0])
    assert (sheet[band:2 * band, margin + cell:] == 255).all()  # no fourth pair


def test_captions_and_numbers_can_be_seen_and_fit():
    sheet = contact_sheet.contact_sheet(frames(*range(16)), frames(*range(16)), range(16), ROWS, 'caption')
    below = sheet[2 * (160 // 7 + 320 + 160 // 14):]
    dark = below.min(-1) < 100
    line = 160 // 7
    assert all(dark[i * line:(i + 1) * line].any() for i in range(1 + len(ROWS)))
    assert not dark[:, -1].any()
    assert not dark[-line // 2:].any()
    assert sheet[:line].min() < 100  # numbers above the pairs


def test_what_is_no_pair_is_refused():
    with pytest.raises(ValueError, match='2 true and 1 generated'):
        contact_sheet.contact_sheet(frames(1, 2), frames(1), [1, 2], ROWS)
    with pytest.raises(ValueError, match='0 true'):
        contact_sheet.contact_sheet(frames(1)[:0], frames(1)[:0], [], ROWS)
