"""Cells of the published tables, copied from the paper by hand a second time."""

import pytest

from talkinghead_jax.protocols.published import TABLES, published
from talkinghead_jax.protocols.recipes import RECIPES


@pytest.mark.parametrize(('protocol', 'dataset', 'label', 'want'), [
    ('audio_driven', 'lrw', 'Chen et al. 2020 (K = 1)', {'LMD': 3.13, 'CSIM': 0.49, 'SSIM': 0.76, 'FID': 62}),
    ('audio_driven', 'lrw', 'Vougioukas et al. 2019', {'LMD': 3.62, 'CSIM': 0.35, 'SSIM': 0.88, 'FID': 116}),
    ('audio_driven', 'voxceleb2', 'Chung et al. 2017', {'LMD': 5.4, 'CSIM': 0.29, 'SSIM': 0.79, 'FID': 159}),
    ('audio_driven', 'voxceleb2', 'Chen et al. 2020 (K = 1)', {'LMD': 3.37, 'CSIM': 0.42, 'SSIM': 0.74, 'FID': 47}),
    ('landmark_driven', 'lrs3_ted', 'Zakharov et al. 2019 (K = 1)', {'SSIM': 0.56, 'CSIM': 0.27, 'FID': 361}),
    ('landmark_driven', 'lrs3_ted', 'Chen et al. 2020 (K = 32)', {'SSIM': 0.79, 'CSIM': 0.44, 'FID': 122}),
    ('landmark_driven', 'voxceleb2', 'Wang et al. 2019 (K = 8)', {'SSIM': 0.72, 'CSIM': 0.53, 'FID': 42.6}),
    ('landmark_driven', 'voxceleb2', 'Chen et al. 2020 (K = 1)', {'SSIM': 0.71, 'CSIM': 0.44, 'FID': 40.8}),
])
def test_cells_are_the_papers(protocol, dataset, label, want):
    assert dict(published(protocol, dataset))[label] == want


def test_every_row_of_the_paper_is_there_once():
    counts = {(protocol, dataset): len(dict(published(protocol, dataset)))
              for protocol in TABLES for dataset in ('lrw', 'voxceleb2', 'lrs3_ted')}
    assert counts == {('audio_driven', 'lrw'): 4, ('audio_driven', 'voxceleb2'): 4, ('audio_driven', 'lrs3_ted'): 0,
                      ('landmark_driven', 'lrw'): 0, ('landmark_driven', 'voxceleb2'): 11,
                      ('landmark_driven', 'lrs3_ted'): 11}
    assert published('folders', '') == []


def test_every_column_has_a_metric_of_ours():
    columns = {column for protocol in TABLES for _, row in published(protocol, 'voxceleb2') for column in row}
    assert columns == {recipe.column for recipe in RECIPES.values()} - {''}


def test_what_is_changed_stays_with_whom_changed_it():
    published('audio_driven', 'lrw')[0][1]['LMD'] = 0.0
    assert published('audio_driven', 'lrw')[0][1]['LMD'] == 3.15
