"""One prepared dataset of fake records for all tests of this folder."""

import fake_dataset
import pytest

from input_pipeline import dataset, prepare


@pytest.fixture
def fake_builder(monkeypatch):
    """`config.data.dataset` means the fake dataset."""
    monkeypatch.setattr(prepare, 'builder_class', lambda name: fake_dataset.FakeTalkingHeads)


@pytest.fixture(scope='session')
def prepared(tmp_path_factory):
    """(config, data directory, summary) of the fake dataset."""
    data_dir = tmp_path_factory.mktemp('data')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, 'builder_class', lambda name: fake_dataset.FakeTalkingHeads)
        summary = prepare.prepare(fake_dataset.config(), data_dir)
    return fake_dataset.config(), data_dir, summary


@pytest.fixture(scope='session')
def fake_data(prepared):
    """The fake dataset, opened."""
    return dataset.open_dataset(prepared[1])
