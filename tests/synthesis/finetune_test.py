"""Settings of a fine-tuning run, the name of its folder, and what it writes. Training itself: end_to_end_test."""

import json

import numpy as np
import pytest
from PIL import Image

from configs import demo
from talkinghead_jax.errors import UserError
from talkinghead_jax.synthesis import finetune, holdout


def test_settings_take_the_place_of_what_they_name():
    config = demo.get_config()
    tuned = finetune.configure(config, {'batch_size': 3, 'data': {'gap': 5}}, steps=40, size=96)
    assert (tuned.image_size, tuned.generator.steps, tuned.generator.batch_size) == (96, 40, 3)
    assert tuned.generator.data.gap == 5
    assert tuned.generator.data.references == config.generator.data.references
    assert (config.image_size, config.generator.batch_size) == (64, 4)  # untouched
    assert finetune.configure(config, config.finetune, steps=40).image_size == 64


def test_a_size_that_the_networks_cannot_halve_is_named():
    with pytest.raises(UserError, match=r'--finetune_size=100: .* want a multiple of 8'):
        finetune.configure(demo.get_config(), {}, steps=40, size=100)


def test_whatever_changes_the_result_changes_the_name(make_record):
    record, config = make_record(), demo.get_config()

    def name(record=record, digest='abc', **changes):
        return finetune.name_of(record, digest, finetune.configure(config, **{
            'settings': {}, 'steps': 9, 'size': 0, **changes}))

    moved = {**record, 'landmarks': record['landmarks'] + 1}
    names = [name(), name(moved), name(make_record(frames=81)), name(digest='abd'), name(size=128), name(steps=10),
             name(settings={'batch_size': 1}), name(settings={'optim': {'learning_rate': 1e-5}})]
    assert len(set(names)) == len(names)
    assert name() == names[0]
    assert '-abc-64px-9-' in name()


def test_report_writes_scores_and_a_sheet(tmp_path):
    pictures = {method: np.full((40, 8, 8, 3), value, np.uint8)
                for method, value in (('before', 0), ('after', 90), (holdout.TRUTH, 200))}
    score = holdout.Score(np.arange(40), {'after': {'ssim': 0.5}, 'copy': {'ssim': float('nan')}}, pictures)
    printed = []
    finetune.report(score, 'after', 100, tmp_path / 'me.mp4', printed.append)
    assert '0.5000' in printed[0]
    found = json.loads((tmp_path / 'me_heldout.json').read_text())
    assert found == {'frames': list(range(100, 140)), 'methods': {'after': {'ssim': 0.5}, 'copy': {'ssim': None}}}
    sheet = np.asarray(Image.open(tmp_path / 'me_heldout.png'))
    assert sheet.shape[1] == 100 + 8 * 160
    assert (sheet == 90).all(-1).sum() >= finetune.PAIRS * 160 * 160  # what was tuned is shown, 'before' is not
    assert (sheet == 200).all(-1).sum() >= finetune.PAIRS * 160 * 160
