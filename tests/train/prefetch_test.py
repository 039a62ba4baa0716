"""Batches come in order, ahead of time, and only the time that the device had to wait for them is counted."""

import threading

import jax
import numpy as np
import pytest
import toy_stages

from talkinghead_jax.train import prefetch, sharding


class _Source:
    """Batches 0, 1, 2 .. each of which comes when `give` has been called for it."""

    def __init__(self, given=0):
        self._given = threading.Semaphore(given)
        self.give = self._given.release

    def __iter__(self):
        number = 0
        while True:
            self._given.acquire()
            yield number
            number += 1


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless a test moves it: `clock.now` s."""
    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now
    clock = Clock()
    monkeypatch.setattr(prefetch, 'time', clock)
    return clock


def _wait_until_ahead(batches):
    with batches._queue.not_empty:
        assert batches._queue.not_empty.wait_for(lambda: batches._queue._qsize() == 2, timeout=60)


def test_the_order_is_kept_and_the_end_of_data_is_told():
    with prefetch.Prefetcher(lambda: iter(range(5)), lambda x: 10 * x) as batches:
        assert [batches.next(None) for _ in range(5)] == [0, 10, 20, 30, 40]
        with pytest.raises(RuntimeError, match='came to an end'):
            batches.next(None)


def test_batches_that_are_ready_are_never_waited_for(clock, monkeypatch):
    """Nor is the running step: the next one is sent after it at once."""
    monkeypatch.setattr(jax, 'block_until_ready', lambda _: pytest.fail('waited for the device'))
    source = _Source(given=6)
    with prefetch.Prefetcher(lambda: source, lambda x: x) as batches:
        for number in range(4):
            _wait_until_ahead(batches)
            clock.now += 1.0
            assert batches.next('running') == number
        assert batches.seconds_waited == 0.0


def test_only_the_time_after_the_running_step_counts_as_waiting(clock, monkeypatch):
    """The step ends 2 s after the queue is found empty, and the batch comes 3 s later."""
    source = _Source()

    def step_ends(running):
        assert running == 'running'
        clock.now += 2.0
    monkeypatch.setattr(jax, 'block_until_ready', step_ends)

    def put(batch):
        clock.now += 3.0
        return batch
    with prefetch.Prefetcher(lambda: source, put) as batches:
        take = batches._queue.get
        monkeypatch.setattr(batches._queue, 'get', lambda: (source.give(), take())[1])  # it comes when waited for
        for number in range(3):
            assert batches.next('running') == number
            assert batches.seconds_waited == 3.0 * (number + 1)
        source.give()  # so that the thread sees the end


def test_no_more_than_two_batches_wait_and_closing_leaves_no_thread():
    made = []
    with prefetch.Prefetcher(lambda: iter(range(100)), made.append) as batches:
        _wait_until_ahead(batches)
        batches.next(None)
        _wait_until_ahead(batches)
    assert len(made) <= 4  # one taken, two waiting, one in hand
    assert not batches._thread.is_alive()


@pytest.mark.parametrize('mode', sharding.MODES)
def test_a_batch_on_its_way_is_put_without_a_program(mode):
    """With several hosts, a program in this thread could meet the step's collectives in another order elsewhere."""
    layout = sharding.make_layout(mode)
    compiled = []

    def listen(event, *_, **__):
        if 'compile' in event:
            compiled.append(event)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with jax.transfer_guard('disallow'):
            batch = layout.put_batch(next(toy_stages.batches(0)))
        assert not compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    x = np.asarray(jax.device_get(batch['x'])).reshape(toy_stages.SPEC['x'].shape)
    np.testing.assert_array_equal(x, next(toy_stages.batches(0))['x'])
