"""Files are read once until they change, whatever they are called; what cannot be read is never remembered."""

import builtins
import errno
import io
import os
import pathlib

import numpy as np
import pytest

from input_pipeline import fingerprints


@pytest.fixture
def read(monkeypatch):
    """The paths that were read, in the order of their reading."""
    read, recognise = [], fingerprints.recognise
    monkeypatch.setattr(fingerprints, 'recognise', lambda path: read.append(path) or recognise(path))
    return read


def _files(folder, count):
    paths = [str(folder / f'{i}.mp4') for i in range(count)]
    for path in paths:
        pathlib.Path(path).write_text(path)
    return paths


def test_a_file_is_read_once_until_it_changes(tmp_path, read):
    paths = [*_files(tmp_path, 2), str(tmp_path / 'missing.mp4')]
    cache = tmp_path / 'cache'
    found = fingerprints.recognise_all(paths, cache)
    assert found[2] == ''
    assert found[0] != found[1] != ''
    assert fingerprints.recognise_all(paths, cache) == found
    assert sorted(read) == paths[:2]
    table = cache / fingerprints.TABLE
    os.truncate(table, table.stat().st_size - 3)  # killed while writing its last line
    assert fingerprints.recognise_all(paths, cache) == found
    assert sorted(read) == [paths[0], paths[1], paths[1]]
    pathlib.Path(paths[0]).write_text('other')
    changed = fingerprints.recognise_all(paths, cache)
    assert changed == [fingerprints.recognise(paths[0]), found[1], '']
    assert changed[0] != found[0]


def test_the_ends_and_the_size_of_a_large_file_count(tmp_path):
    content = np.random.default_rng(0).bytes(3 << 20)
    digests = []
    for place in (None, 5, len(content) - 5):
        changed = bytearray(content)
        if place:
            changed[place] ^= 1
        (tmp_path / 'a.mp4').write_bytes(changed)
        digests.append(fingerprints.recognise(tmp_path / 'a.mp4'))
    (tmp_path / 'a.mp4').write_bytes(content + b'x')
    assert len({*digests, fingerprints.recognise(tmp_path / 'a.mp4')}) == 4


def test_more_files_than_a_window_in_any_order(tmp_path, read, monkeypatch):
    monkeypatch.setattr(fingerprints, '_WINDOW', 3)
    paths = _files(tmp_path, 8)
    want = [fingerprints.recognise(path) for path in paths]
    del read[:]
    backwards = fingerprints.recognise_all([*reversed(paths), paths[0]], tmp_path / 'cache')
    assert backwards == [*reversed(want), want[0]]
    assert sorted(read) == paths
    assert fingerprints.recognise_all(paths, tmp_path / 'cache') == want
    assert sorted(read) == paths


def test_a_file_that_may_be_read_at_last_is_read(tmp_path, monkeypatch):
    """A change of rights does not change a file's time."""
    paths, opened, denied = _files(tmp_path, 2), builtins.open, True

    def guarded(path, *args, **kwargs):
        if denied and path == paths[0]:
            raise PermissionError(errno.EACCES, 'Permission denied')
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(builtins, 'open', guarded)
    found = fingerprints.recognise_all(paths, tmp_path / 'cache')
    assert found[0] == ''
    denied = False
    assert fingerprints.recognise_all(paths, tmp_path / 'cache') == [fingerprints.recognise(paths[0]), found[1]]


def test_names_of_any_bytes(tmp_path, read):
    names = [b'caf\xe9.mp4', 'Zoë.mp4'.encode(), b'a\rb.mp4', b'a\tb.mp4', b'a\nb.mp4', b'a.mp4']
    paths = [os.fsdecode(os.path.join(os.fsencode(tmp_path), name)) for name in names]
    for path in paths:
        pathlib.Path(path).write_text('same')
    found = fingerprints.recognise_all(paths, tmp_path / 'cache')
    assert len(set(found)) == len(names)
    del read[:]
    assert fingerprints.recognise_all(paths, tmp_path / 'cache') == found
    assert read == [paths[4]]  # the table has a line a file


def test_the_table_is_only_a_help(tmp_path, monkeypatch, caplog):
    class Full(io.StringIO):
        def writelines(self, lines):
            raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(fingerprints, '_WINDOW', 2)
    paths, opened = _files(tmp_path, 5), builtins.open
    monkeypatch.setattr(builtins, 'open', lambda path, *args, **kwargs: (
        Full() if str(path).endswith(fingerprints.TABLE) else opened(path, *args, **kwargs)))
    found = fingerprints.recognise_all(paths, tmp_path / 'cache')
    assert found == [fingerprints.recognise(path) for path in paths]
    assert len(caplog.messages) == 1
    assert 'fingerprints.tsv: No space left on device; the next run will read the media again' in caplog.text
    (tmp_path / 'file').touch()
    assert fingerprints.recognise_all(paths, tmp_path / 'file/cache') == found
