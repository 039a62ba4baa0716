"""Interleaved timing: what counts is the ratio of two sides in one round, as other work on the machine slows both."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

# s between two calls: OpenMP's threads spin for some ms after their work, which is not to fall to the next side.
SETTLING = 0.02


class Sample(NamedTuple):
    """Seconds of one call."""

    wall: float
    cpu: float  # of all threads of this process


def paired(sides: dict[str, Callable[[], object]], rounds: int = 9) -> dict[str, list[Sample]]:
    """Time `sides` in turn: a warm-up call of each, then `rounds` rounds that call every side once.

    The order is rotated from round to round. Each side must block until its result is ready.

    Returns:
      For each side one sample a round, in the order of the rounds.
    """
    names = list(sides)
    for name in names:
        sides[name]()
    samples = {name: [] for name in names}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                time.sleep(SETTLING)
                samples[name].append(_time(sides[name]))
    finally:
        if collecting:
            gc.enable()
    return samples


def _time(call: Callable[[], object]) -> Sample:
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    sample = Sample(time.perf_counter() - wall, time.process_time() - cpu)
    del result  # after the clocks were read: freeing is not the call's work
    return sample


def median(samples: Sequence[Sample], which: str = 'wall') -> float:
    """Median seconds of one side; `which` is 'wall' or 'cpu'."""
    return statistics.median(getattr(sample, which) for sample in samples)


def ratio(samples: dict[str, list[Sample]], a: str, b: str, which: str = 'wall') -> float:
    """Median over the rounds of a's time divided by b's of the same round."""
    return statistics.median(getattr(x, which) / getattr(y, which)
                             for x, y in zip(samples[a], samples[b], strict=True))
