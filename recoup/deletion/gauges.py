"""Metrics that are read from the database, so every worker shows the same."""

import logging
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from recoup import log
from recoup.database import guard, orphans, statements
from recoup.database.connection import FAILURES, DatabaseFailed
from recoup.database.failures import explain


class Marks(Collector):
    """Marks, doubts, orphans and the guard; or only that the database can't be asked."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read them."""
        try:
            marks, oldest_mark = statements.count_marks()
            doubts, oldest_doubt = statements.count_doubts()
            waiting, oldest_orphan = orphans.count_orphans()
            guarded = _is_guarded()
        except DatabaseFailed as error:
            log.note(level=logging.WARNING, error=f"DatabaseFailed: {error}")
            yield _database_up(0)
            return
        yield _database_up(1)
        yield _gauge("recoup_marks", "Tasks whose deletion has begun and not ended.", marks)
        yield _gauge(
            "recoup_oldest_mark_seconds",
            "How long ago the oldest of these deletions began; 0 without any.",
            oldest_mark,
        )
        yield _gauge("recoup_doubts", "Tasks whose deletion is in doubt.", doubts)
        yield _gauge(
            "recoup_oldest_doubt_seconds",
            "How long the oldest of these doubts has lasted; 0 without any.",
            oldest_doubt,
        )
        yield _gauge(
            "recoup_orphans",
            "Tasks whose rows others deleted, and whose schedules are still to be cancelled.",
            waiting,
        )
        yield _gauge(
            "recoup_oldest_orphan_seconds",
            "How long ago the oldest of these rows was deleted; 0 without any.",
            oldest_orphan,
        )
        yield _gauge("recoup_guard", "1 if the guard is on and whole, and 0 if not.", guarded)


def _is_guarded() -> bool:
    try:
        return guard.look().is_whole
    except FAILURES as error:
        raise DatabaseFailed(explain(error)) from error


def _database_up(value: int) -> GaugeMetricFamily:
    text = "1 if this server could read its tables in the database just now, and 0 if not."
    return _gauge("recoup_database_up", text, value)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
