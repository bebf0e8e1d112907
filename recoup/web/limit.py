"""A limit on the deletions that a worker has in hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

from recoup.counts import counts

# A deletion waits so long for a place. To refuse costs nearly what a deletion does, and whoever is
# refused at once asks again at once; but it holds a thread that is there for everything else.
PATIENCE_SECONDS = 0.1


class Overloaded(Exception):
    """This worker has as many deletions in hand as it takes on."""


class DeletionLimit:
    """As many places as deletions may be in hand at once. Threads share it.

    Each deletion holds a thread while it waits for Trigger.dev, and some threads must be left to
    answer everything else.
    """

    def __init__(self, places: int) -> None:
        # A semaphore, made of what Python has in C.
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
