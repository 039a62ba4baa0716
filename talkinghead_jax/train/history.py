"""Training curves as lines of JSON, so that a report can draw them without TensorFlow.

One line a report: {"step": 20, "loss/net": 0.1, ...}. A line of step n was written before the checkpoint of step
n, so a restart drops the lines beyond the step that it restores, and the file reads as if nothing had happened.
"""

import json
import os
import pathlib


def path(workdir: str | os.PathLike, stage_name: str) -> pathlib.Path:
    """The file of one stage's curves."""
    return pathlib.Path(workdir) / 'logs' / stage_name / 'metrics.jsonl'


def append(file: pathlib.Path, step: int, scalars: dict[str, float]) -> None:
    """Add the line of `step`."""
    with file.open('a', encoding='utf-8') as stream:
        stream.write(json.dumps({'step': step, **scalars}) + '\n')


def rewind(file: pathlib.Path, step: int) -> None:
    """Drop the lines beyond `step`, and a last line that a killed process left incomplete."""
    if file.exists():
        kept = ''.join(json.dumps(row) + '\n' for row in _rows(file) if row['step'] <= step)
        whole = file.with_suffix('.tmp')
        whole.write_text(kept, encoding='utf-8')
        whole.replace(file)


def read(workdir: str | os.PathLike, stage_name: str) -> list[dict[str, float]]:
    """All lines of one stage in the order of their steps; [] if it was never trained."""
    file = path(workdir, stage_name)
    return _rows(file) if file.exists() else []


def _rows(file: pathlib.Path) -> list[dict[str, float]]:
    rows = []
    for line in file.read_text(encoding='utf-8').splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
