"""What the cache knows files by: digests of their content, remembered, so that a million files are read once."""

import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from concurrent import futures
from typing import Any

from tqdm import tqdm

TABLE = 'fingerprints.tsv'  # in the cache: size, time of change (ns), digest and path of each file seen
_SAMPLE = 1 << 20  # bytes read from each end of a file to recognise it
_THREADS = 16  # reading waits for disks, not for processors
_SHOWN_FROM = 1000  # files: from here on with a progress bar


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

    The table grows while files are read, so that a killed run has lost nothing. A folder that cannot be written
    has no table.
    """
    known = _read(folder / TABLE)
    stats = [_stat(path) for path in paths]
    unknown = sorted({path: stat for path, stat in zip(paths, stats, strict=True)
                      if stat and known.get(path, ())[:2] != stat}.items())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        table = open(folder / TABLE, 'a')  # noqa: SIM115 (closed below; there may be none)
    except OSError:
        table = open(os.devnull, 'w')  # noqa: SIM115
    with table, futures.ThreadPoolExecutor(_THREADS) as executor:
        found = executor.map(recognise, [path for path, _ in unknown])
        bar = tqdm(found, 'recognise media', len(unknown), unit='file', disable=len(unknown) < _SHOWN_FROM)
        for (path, stat), content in zip(unknown, bar, strict=True):
            known[path] = (*stat, content)
            table.write(f'{stat[0]}\t{stat[1]}\t{content}\t{path}\n')
    return [known[path][2] if stat else '' for path, stat in zip(paths, stats, strict=True)]


def _stat(path: str) -> tuple[int, int] | None:
    """(size, time of change in ns); None where there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _read(table: pathlib.Path) -> dict[str, tuple[int, int, str]]:
    known = {}
    if table.is_file():
        with open(table, errors='replace') as lines:
            for line in lines:
                fields = line.rstrip('\n').split('\t', 3)
                # A killed run leaves half a line, to which the next run's first was appended.
                if line.endswith('\n') and len(fields) == 4 and fields[0].isdigit() and fields[1].isdigit():
                    known[fields[3]] = (int(fields[0]), int(fields[1]), fields[2])
    return known
