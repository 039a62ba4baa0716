"""What a compiled step costs on a slice of TPUs: compute by the compiler's estimate, messages by their bytes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

GIB = 2 ** 30
LINKS = 2  # of a chip at a slice's corner: slices of 4 and 16 chips do not wrap around, and the slowest chip counts

Row = Mapping[str, Any]


class Chip(NamedTuple):
    """A TPU, as Google states it (docs.cloud.google.com/tpu/docs/v5e and /v6e)."""

    name: str
    memory: int  # bytes of HBM
    peak: float  # FLOP/s in bfloat16
    bandwidth: float  # bytes/s of HBM
    link: float  # bytes/s, one way, of each of its four links
    clock: float  # Hz: peak over what four matrix units of 128 x 128 (v5e) or 256 x 256 (v6e) do in a cycle


CHIPS = {
    'v5e': Chip('v5e', 16 * GIB, 197e12, 819e9, 50e9, 197e12 / (4 * 2 * 128 ** 2)),
    'v6e': Chip('v6e', 32 * GIB, 918e12, 1638e9, 100e9, 918e12 / (4 * 2 * 256 ** 2)),
}


class Estimate(NamedTuple):
    """Seconds of one step, and what each chip puts on its links meanwhile."""

    compute: float  # the compiler's cycles, loops times their trips
    roofline: float  # the compiler's `optimal_seconds`, loops once
    sent: float  # bytes that a chip sends
    sending: float  # seconds that this takes

    @property
    def step(self) -> float:
        """Compute, then messages: as if nothing overlapped."""
        return self.compute + self.sending


def chips(topology: str) -> int:
    """How many chips 'v5e:4x4' has."""
    return math.prod(int(side) for side in topology.partition(':')[2].split('x'))


def chip(topology: str) -> Chip:
    """Which chip 'v5e:4x4' consists of."""
    return CHIPS[topology.partition(':')[0]]


def bytes_sent(collective: str, size: int, group: int) -> float:
    """Bytes that each of `group` chips sends when they go round a ring.

    Args:
      collective: its HLO name.
      size: bytes of the whole array: what is reduced, or what is there after a gather.
      group: chips that take part.
    """
    if group == 1:
        return 0.0
    rounds = {'all-reduce': 2 * (group - 1), 'all-gather': group - 1, 'reduce-scatter': group - 1,
              'all-to-all': group - 1}
    return size * rounds.get(collective, group) / group


def estimate(row: Row) -> Estimate:
    """The seconds of a compiled case."""
    kind = chip(row['topology'])
    sent = sum(one['times'] * bytes_sent(one['collective'], one['bytes'], one['group'] or row['chips'])
               for one in row['messages'])
    # XLA's cost analysis gives -1 for the seconds of each custom call, as it does not know them.
    return Estimate(row['cycles'] / kind.clock, row['optimal_seconds'] + row['custom_calls'], sent,
                    sent / (LINKS * kind.link))


def moved(row: Row, topology: str) -> Row:
    """A compiled case on another slice of the same chips: the same arrays in a ring of another length."""
    count = chips(topology)
    messages = [{**one, 'group': count if one['group'] == row['chips'] else one['group']} for one in row['messages']]
    return {**row, 'topology': topology, 'chips': count, 'messages': messages}


def memory(row: Row) -> int:
    """Bytes of HBM that a compiled case needs on each chip, its program included."""
    return row['arguments'] + row['outputs'] + row['temporaries'] + row['code']


def efficiency(few: Row, many: Row) -> float:
    """Weak scaling: examples a second and chip on many chips, over those on few, of equal batch per chip."""
    return estimate(few).step / estimate(many).step


def largest_batch(points: Sequence[tuple[int, int]], memory: int) -> int:
    """The most examples a chip that `memory` bytes hold, on the line through two or more (batch, bytes).

    Raises:
      ValueError: fewer than two batch sizes, or memory does not grow with them.
    """
    (first, low), (last, high) = min(points), max(points)
    if last <= first or high <= low:
        raise ValueError(f'found {sorted(points)}, want two batch sizes of which the larger takes more memory')
    return first + math.floor((memory - low) * (last - first) / (high - low))
