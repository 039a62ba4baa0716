"""What the cache knows files by: digests of their content, remembered, so that a million files are read once."""

import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any

from tqdm import tqdm

TABLE = 'fingerprints.tsv'  # in the cache: size, time of change (ns), digest and path of each file seen
_SAMPLE = 1 << 20  # bytes read from each end of a file to recognise it
_THREADS = 16  # reading waits for disks, not for processors
_WINDOW = 1024  # files: what waits for a thread, and what a killed run reads again
_SHOWN_FROM = 1000  # files: from here on with a progress bar
# Names of files need not be UTF-8, and may hold a carriage return.
_TEXT = {'encoding': 'utf-8', 'errors': 'surrogateescape', 'newline': '\n'}

_log = logging.getLogger(__name__)
_Seen = tuple[int, int, str]  # size, time of change (ns), digest


def digest(**parameters: Any) -> str:
    """A short name of JSON-like parameters: equal parameters, equal name."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:24]


def recognise(path: str | os.PathLike) -> str:
    """A digest of a file's size, first and last MiB, and name; '' if it cannot be read."""
    try:
        with open(path, 'rb') as file:
            size = os.fstat(file.fileno()).st_size
            content = hashlib.sha256(file.read(_SAMPLE))
            file.seek(max(size - _SAMPLE, 0))
            content.update(file.read(_SAMPLE))
    except OSError:
        return ''
    return digest(name=pathlib.Path(path).stem, size=size, content=content.hexdigest())


def recognise_all(paths: Sequence[str], folder: pathlib.Path) -> list[str]:
    """`recognise` of every path; files that the table in `folder` knows unchanged are not read again.

    The table grows while files are read, so that a killed run has lost little. It is only a help: where it cannot be
    read or written, files are read again. What could not be read is not in it: who may read a file can change, and
    its time does not tell.
    """
    table = _Table(folder)
    found = []
    with (futures.ThreadPoolExecutor(_THREADS) as executor,
          tqdm(total=len(paths), desc='recognise media', unit='file', disable=len(paths) < _SHOWN_FROM) as bar):
        for start in range(0, len(paths), _WINDOW):
            window = paths[start:start + _WINDOW]
            stats = dict(zip(window, executor.map(_stat, window), strict=True))
            unknown = [path for path, stat in stats.items() if stat and not table.find(path, stat)]
            contents = zip(unknown, executor.map(recognise, unknown), strict=True)
            table.add({path: (*stats[path], content) for path, content in contents if content})
            found += [table.find(path, stats[path]) for path in window]
            bar.update(len(window))
    return found


class _Table:
    """The files seen before, and now."""

    def __init__(self, folder: pathlib.Path):
        self._path = folder / TABLE
        self._seen = _read(self._path)
        self._written = True

    def find(self, path: str, stat: tuple[int, int] | None) -> str:
        """The digest of a file that has not changed; else ''."""
        *before, content = self._seen.get(path, (0, 0, ''))
        return content if stat and tuple(before) == stat else ''

    def add(self, files: Mapping[str, _Seen]) -> None:
        self._seen.update(files)
        if not files or not self._written:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, 'a', **_TEXT) as table:
                table.writelines(f'{size}\t{time}\t{content}\t{path}\n'
                                 for path, (size, time, content) in files.items() if '\n' not in path)
        except OSError as error:
            self._written = False
            _log.warning('cannot write %s: %s; the next run will read the media again', self._path, error.strerror)


def _stat(path: str) -> tuple[int, int] | None:
    """(size, time of change in ns); None where there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _read(table: pathlib.Path) -> dict[str, _Seen]:
    known = {}
    try:
        with open(table, **_TEXT) as lines:
            for line in lines:
                fields = line.rstrip('\n').split('\t', 3)
                # A killed run leaves half a line, to which the next run's first was appended.
                if line.endswith('\n') and len(fields) == 4 and fields[0].isdecimal() and fields[1].isdecimal():
                    known[fields[3]] = (int(fields[0]), int(fields[1]), fields[2])
    except OSError:
        return known
    return known
