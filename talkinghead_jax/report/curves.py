"""From a training log to the curves that are worth a plot."""

import math
import re
from collections.abc import Iterable, Mapping

import numpy as np

# What is logged but is neither a loss nor a metric of the network.
_OPERATIONAL = re.compile(
    r'learning_rate|\blr\b|\bsecs?|second|\btime|per_sec|speed|wait|compil|uptime|\beta\b|memory')

Curves = dict[str, tuple[np.ndarray, np.ndarray]]


def curves(rows: Iterable[Mapping[str, float]], limit: int = 8) -> Curves:
    """Name -> (steps, values) of at most `limit` scalars with at least two finite values; losses come first.

    Args:
      rows: lines of the log, each with `step` and scalars (`train.history.read`). Of lines with the same step
        the last holds; a line without `step` and what is no number are passed over.
      limit: most curves to return.
    """
    points: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row.items():
            if _is_number(value) and _is_number(row.get('step')) and not _OPERATIONAL.search(name.lower()):
                points.setdefault(name, {})[int(row['step'])] = float(value)
    points.pop('step', None)
    names = sorted((name for name, of in points.items() if len(of) > 1), key=lambda name: ('loss' not in name, name))
    return {name: tuple(np.array(sorted(points[name].items())).T) for name in names[:limit]}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
