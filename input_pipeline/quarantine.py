"""What could not be used, and why: a note beside the cached records, and a table for people.

A job of the cache ends in its record or in a refusal, `NAME.refused`, a JSON file. A refusal is final, since the
same file will not become better: only what `failed` (an unexpected error, a process that died) is tried again.
"""

import collections
import csv
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

TABLE = 'quarantine.csv'
FAILED = 'failed'


class Refusal(NamedTuple):
    """A row of the table; `reason` is one of `errors.REASONS`, `path` the media file or a description."""

    clip: str
    split: str
    reason: str
    detail: str
    path: str


def note_path(record: pathlib.Path) -> pathlib.Path:
    """Where the refusal of a cached record lies that could not be made."""
    return record.with_name(f'{record.name}.refused')


def note(record: pathlib.Path, reason: str, detail: str) -> None:
    """Remember that `record` cannot be made."""
    record.parent.mkdir(parents=True, exist_ok=True)
    temporary = record.with_name(f'.{record.name}.{os.getpid()}.tmp')
    temporary.write_text(json.dumps({'reason': reason, 'detail': detail}))
    os.replace(temporary, note_path(record))


def read_note(record: pathlib.Path) -> tuple[str, str] | None:
    """(reason, detail) of what `note` wrote; None where nothing is written."""
    try:
        found = json.loads(note_path(record).read_text())
    except (OSError, ValueError):
        return None
    return found['reason'], found['detail']


def write(path: pathlib.Path, refusals: Iterable[Refusal]) -> None:
    """The table, sorted, as CSV with a header; no file where there is no refusal."""
    rows = sorted(refusals)
    if not rows:
        path.unlink(missing_ok=True)
        return
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    with open(temporary, 'w', newline='', encoding='utf-8', errors='surrogateescape') as file:
        table = csv.writer(file)
        table.writerow(Refusal._fields)
        table.writerows(rows)
    os.replace(temporary, path)


def read(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a table; none where there is no table."""
    if not path.is_file():
        return []
    with open(path, newline='', encoding='utf-8', errors='surrogateescape') as file:
        return list(csv.DictReader(file))


def counts(refusals: Iterable[Refusal]) -> dict[str, int]:
    """Reason -> number of clips."""
    return dict(collections.Counter(refusal.reason for refusal in refusals))


def described(reasons: Mapping[str, int]) -> str:
    """'3 no_face, 1 too_short', the most frequent first."""
    order = sorted(reasons, key=lambda reason: (-reasons[reason], reason))
    return ', '.join(f'{reasons[reason]} {reason}' for reason in order)
