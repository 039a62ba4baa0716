"""How long each part of a run took, kept in the workdir for the report."""

import contextlib
import json
import pathlib
import time
from collections.abc import Iterator

from talkinghead_jax import files

_NOTHING_DONE = 2.0  # s: a part that only found its work done already


def read(workdir: pathlib.Path) -> dict[str, float]:
    """Part -> seconds, in the order in which the parts first ran."""
    path = workdir / 'timings.json'
    return json.loads(path.read_text()) if path.is_file() else {}


@contextlib.contextmanager
def timed(workdir: pathlib.Path | None, part: str) -> Iterator[None]:
    """Note the wall time of the block as that of `part`; of several runs the longest counts. None notes nothing."""
    start = time.monotonic()
    yield
    if workdir is None:
        return
    seconds = time.monotonic() - start
    known = read(workdir)
    if seconds > known.get(part, _NOTHING_DONE):
        files.write_atomically(workdir / 'timings.json', files.to_json({**known, part: seconds}))
