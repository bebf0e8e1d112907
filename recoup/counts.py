"""Numbers that the processes of one server count together, in memory that they share.

The memory is made when this module is imported, and a fork passes it on. gunicorn's master imports
this module, so all its workers share the memory. It has no name and no file. Nothing can remove it
or fill it up, no other server can use it, and it goes with the last process that has it.

It consists of rows. Each process counts in its own row and waits for nobody. A reader adds the rows
up. When a worker dies, its row stays as it is, and the next worker with that row counts on from
there. Only the gauges of the dead worker are subtracted, see `GAUGES`.
"""

import mmap
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

# A metric's name, and the values of its labels.
Series = tuple[str, ...]

# The first row is the master's. During a reload old and new workers need rows side by side.
ROWS = 256
# What a process has now, and no longer has once it has ended.
GAUGES = ("recoup_places", "recoup_places_in_use", "recoup_connections_waiting")
# The most in a row; further ones are not counted.
MOST_SERIES = 512
_KEY_BYTES = 120
# A number fills a machine word, which is written whole or not at all.
_WORD = 8
_WORDS = _KEY_BYTES // _WORD + 1


class Counts:
    """The number of series in each row, then the rows: each series' key and number."""

    def __init__(self) -> None:
        words = ROWS + ROWS * MOST_SERIES * _WORDS
        self._bytes = memoryview(mmap.mmap(-1, words * _WORD))
        self._numbers = self._bytes.cast("d")
        self._lock = Lock()
        self.take_row(0)

    def take_row(self, row: int) -> None:
        """Count in this row from now on. No other process may use it; its numbers stay."""
        self._row = row
        self._places = dict(self._read(row))

    def add(self, series: Series, amount: float = 1) -> None:
        """Add to a series, which begins at 0."""
        with self._lock:
            place = self._places.get(series) or self._begin(series)
            if place:
                self._numbers[place] += amount

    @contextmanager
    def hold(self, gauge: str) -> Iterator[None]:
        """Count one more in a gauge for as long as the block runs."""
        self.add((gauge,))
        try:
            yield
        finally:
            self.add((gauge,), -1)

    def clear_gauges(self, row: int) -> None:
        """Subtract the gauges of a process that has ended."""
        for (name, *_), place in self._read(row):
            if name in GAUGES:
                self._numbers[place] = 0

    def totals(self) -> dict[Series, float]:
        """Return the sum of all rows for each series that has begun."""
        totals: dict[Series, float] = defaultdict(float)
        for row in range(ROWS):
            for series, place in self._read(row):
                totals[series] += self._numbers[place]
        return totals

    def _read(self, row: int) -> Iterator[tuple[Series, int]]:
        for index in range(int(self._numbers[row])):
            key, place = self._locate(row, index)
            yield tuple(bytes(key).rstrip(b"\0").decode(errors="replace").split("\t")), place

    def _begin(self, series: Series) -> int | None:
        index = int(self._numbers[self._row])
        if index == MOST_SERIES:
            return None
        key, place = self._locate(self._row, index)
        key[:] = "\t".join(series).encode()[:_KEY_BYTES].ljust(_KEY_BYTES, b"\0")
        # Only after the key is complete, because another process may be reading.
        self._numbers[self._row] = index + 1
        self._places[series] = place
        return place

    def _locate(self, row: int, index: int) -> tuple[memoryview, int]:
        """Return the bytes of a series' key, and the index of its number."""
        begin = ROWS + (row * MOST_SERIES + index) * _WORDS
        place = begin + _WORDS - 1
        return self._bytes[begin * _WORD : place * _WORD], place


counts = Counts()
