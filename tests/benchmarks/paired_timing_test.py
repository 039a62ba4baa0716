import gc
import time

import pytest

from benchmarks import timing
from benchmarks.timing import Sample


def test_sides_take_turns_and_each_starts_a_round_as_often(monkeypatch):
    monkeypatch.setattr(timing, 'SETTLING', 0)
    calls = []
    samples = timing.paired({name: (lambda name=name: calls.append(name)) for name in 'abc'}, rounds=4)
    assert ''.join(calls) == 'abc' + 'abc' + 'bca' + 'cab' + 'abc'
    assert {name: len(values) for name, values in samples.items()} == {'a': 4, 'b': 4, 'c': 4}


def test_sleep_takes_wall_time_and_no_cpu_time():
    samples = timing.paired({'sleep': lambda: time.sleep(0.05), 'spin': lambda: sum(range(1_000_000))}, rounds=3)
    assert all(sample.wall >= 0.05 > 5 * sample.cpu for sample in samples['sleep'])
    assert all(sample.cpu > 0 for sample in samples['spin'])


def test_ratio_is_the_median_of_paired_ratios_not_the_ratio_of_medians():
    # Round 2 was disturbed: both sides took ten times as long.
    samples = {'a': [Sample(1, 4), Sample(20, 5), Sample(3, 6)], 'b': [Sample(2, 1), Sample(40, 5), Sample(4, 2)]}
    assert timing.ratio(samples, 'a', 'b') == 0.5  # of 1/2, 1/2, 3/4; the medians would give 3/4
    assert timing.ratio(samples, 'a', 'b', 'cpu') == 3
    assert timing.median(samples['a']) == 3
    assert timing.median(samples['a'], 'cpu') == 5


def test_a_failing_side_leaves_the_garbage_collector_on(monkeypatch):
    monkeypatch.setattr(timing, 'SETTLING', 0)
    calls = iter([None])  # the warm-up passes, the first round fails
    with pytest.raises(StopIteration):
        timing.paired({'a': lambda: next(calls)})
    assert gc.isenabled()
