"""A limit on the deletions that a worker does at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

from recoup.counts import counts

# How long a deletion waits for a place. A refusal costs nearly as much as a deletion, and a caller
# who is refused at once asks again at once. But the wait holds a thread that other requests need.
PATIENCE_SECONDS = 0.1


class Overloaded(Exception):
    """This worker does as many deletions as it may."""


class DeletionLimit:
    """Has a place for each deletion that may be done at once. Threads share it.

    A deletion holds a thread while it waits for Trigger.dev, and some threads must stay free for
    everything else.
    """

    def __init__(self, places: int) -> None:
        # A semaphore, but implemented in C.
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(places):
            self._places.put(None)
        counts.add(("recoup_places",), places)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            Overloaded: none became free in time.
        """
        try:
            self._places.get(timeout=PATIENCE_SECONDS)
        except Empty:
            raise Overloaded from None
        try:
            with counts.hold("recoup_places_in_use"):
                yield
        finally:
            self._places.put(None)
