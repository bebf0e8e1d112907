"""What of the database is shown to Prometheus: the same for every worker."""

import logging
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from recoup import log
from recoup.database import statements
from recoup.database.connection import DatabaseFailed


class Marks(Collector):
    """The marks in the database; left out while it can't be asked."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read them."""
        try:
            count, seconds = statements.count_marks()
        except DatabaseFailed as error:
            log.note(level=logging.WARNING, error=f"DatabaseFailed: {error}")
            return
        yield GaugeMetricFamily(
            "recoup_marks", "Tasks whose deletion has begun and not ended.", value=count
        )
        yield GaugeMetricFamily(
            "recoup_oldest_mark_seconds",
            "How long ago the oldest of these deletions began; 0 without any.",
            value=seconds,
        )
