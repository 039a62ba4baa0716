"""Batches on their way to the device while the step runs."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax


class Prefetcher:
    """Reads batches and puts them on the device in a thread, at most `ahead` in advance.

    Attributes:
      seconds_waited: how long the device had nothing to do because no batch was ready.
    """

    def __init__(self, batches: Callable[[], Iterator[Any]], put: Callable[[Any], Any], ahead: int = 2) -> None:
        self.seconds_waited = 0.0
        self._batches = batches
        self._put = put
        self._queue: queue.Queue = queue.Queue(maxsize=ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fill, name='prefetch', daemon=True)

    def next(self, running: Any) -> Any:
        """The next batch on the device.

        Args:
          running: results of the step that runs now. Only the time from its end to the batch's arrival counts
            as waiting: before that, the device is busy.

        Raises:
          What reading a batch raised; RuntimeError if the iterator ends, for training data repeat.
        """
        if self._queue.empty():
            jax.block_until_ready(running)
            start = time.perf_counter()
            batch, error = self._queue.get()
            self.seconds_waited += time.perf_counter() - start
        else:
            batch, error = self._queue.get()
        if error is not None:
            raise error
        return batch

    def _fill(self) -> None:
        try:
            for batch in self._batches():
                self._offer((self._put(batch), None))
                if self._stopped.is_set():
                    return
            raise RuntimeError('the training batches came to an end; they must repeat for ever')
        except Exception as error:  # whatever it is, the training thread must hear of it
            self._offer((None, error))

    def _offer(self, item: tuple[Any, Exception | None]) -> None:
        """Wait for a free place, but not beyond `close`."""
        while not self._stopped.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                pass

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=10)
