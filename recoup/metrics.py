"""The metrics for Prometheus, counted from the notes of each line in the log.

All workers of a server count together, see `counts`; any of them can answer for all.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from recoup.counts import Series, counts

DELETION_ROUTE = "/api/tasks"
# How a request to delete ended: the `state` of its line in the log, or one of two others.
OUTCOMES = ("deleted", "kept", "in doubt", "marked", "refused", "failed")
RECOVERIES = ("deleted", "marked", "overtaken")
DOUBTS = ("kept", "deleted", "in doubt", "marked", "overtaken")
ORPHANS = ("cancelled", "gone", "kept", "waiting", "overtaken")
# Why the service itself refused to delete: `refused` in the log.
REFUSALS = ("no place", "not possible", "unproven key")
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, float("inf"))

_COUNTERS = {
    "recoup_requests": (
        "Requests that were answered, by route and status.",
        ["route", "status"],
    ),
    "recoup_cancel_attempts": (
        "Calls to Trigger.dev for a deletion, look-ups too, by the status of the answer.",
        ["status"],
    ),
    "recoup_schedules_missing": (
        "Deletions of tasks whose schedule was gone already, though this service had not "
        "cancelled it.",
        [],
    ),
    "recoup_refusals": (
        "Deletions that this service refused, by reason: no place (too many were under way), not "
        "possible (the database would not let them be finished), unproven key (the key knows none "
        "of the schedules that tasks name).",
        ["reason"],
    ),
    "recoup_recoveries": (
        "Tries to complete a deletion that was left in the middle, by outcome: deleted, marked "
        "(failed, tried again later), overtaken (another worker was faster).",
        ["outcome"],
    ),
    "recoup_doubts_settled": (
        "Looks at deletions in doubt, by outcome: kept (the task is whole), deleted (the deletion "
        "was completed), in doubt (not known yet), marked (failed, tried again later), overtaken "
        "(a request or another worker was faster).",
        ["outcome"],
    ),
    "recoup_orphans_collected": (
        "Tries at tasks whose rows others deleted, by outcome: cancelled (the schedule), gone "
        "(there was none), kept (the row is there again), waiting (failed, tried again later), "
        "overtaken (another worker was faster).",
        ["outcome"],
    ),
    "recoup_log_lines_dropped": (
        "Lines of the log that were dropped because nobody read the log.",
        [],
    ),
}
_GAUGES = {
    "recoup_places": "How many deletions the workers of this server take on at once.",
    "recoup_places_in_use": "How many deletions they have in hand.",
    "recoup_connections_waiting": "Threads that wait for a connection to Postgres.",
}
_SETTLINGS = {
    "recovery": "recoup_recoveries",
    "doubt": "recoup_doubts_settled",
    "orphan": "recoup_orphans_collected",
}
_LIMITS = tuple(map(floatToGoString, BUCKETS))
_DELETIONS = "recoup_deletion_seconds"
_SECONDS = "recoup_deletion_seconds_sum"
_DELETIONS_HELP = (
    "How long requests to delete a task took, by outcome: the state in the log, or else refused "
    "(4xx) or failed (5xx, and nothing was changed)."
)


def count_request(notes: Mapping[str, Any]) -> None:
    """Count a request by its line in the log."""
    route = notes.get("route")
    _count("recoup_requests", route or "unknown", notes["status"])
    if route == DELETION_ROUTE and notes["method"] == "DELETE":
        failed = "failed" if notes["status"] >= 500 else "refused"
        _count_deletion(notes.get("state", failed), notes["ms"] / 1000)
        _count_cancel(notes)


def count_settling(event: str, notes: Mapping[str, Any]) -> None:
    """Count a `recovery`, a `doubt` or an `orphan` by its line in the log."""
    _count(_SETTLINGS[event], notes["state"])
    _count_cancel(notes)


def _count_cancel(notes: Mapping[str, Any]) -> None:
    for status in notes.get("upstream_statuses", ()):
        _count("recoup_cancel_attempts", status or "none")
    if notes.get("missing"):
        _count("recoup_schedules_missing")
    if notes.get("refused"):
        _count("recoup_refusals", notes["refused"])


def _count(name: str, *labels: object) -> None:
    counts.add((name, *map(str, labels)))


def _count_deletion(outcome: str, seconds: float) -> None:
    counts.add((_DELETIONS, outcome, _LIMITS[bisect_left(BUCKETS, seconds)]))
    counts.add((_SECONDS, outcome), seconds)


# Each series begins at 0: `rate()` doesn't see an event that a series begins with.
for _outcome in OUTCOMES:
    counts.add((_SECONDS, _outcome), 0)
for _outcome in RECOVERIES:
    counts.add(("recoup_recoveries", _outcome), 0)
for _outcome in DOUBTS:
    counts.add(("recoup_doubts_settled", _outcome), 0)
for _outcome in ORPHANS:
    counts.add(("recoup_orphans_collected", _outcome), 0)
for _reason in REFUSALS:
    counts.add(("recoup_refusals", _reason), 0)
for _name, (_, _labels) in _COUNTERS.items():
    if not _labels:
        counts.add((_name,), 0)


class _Counted(Collector):
    def collect(self) -> Iterator[Metric]:
        totals = counts.totals()
        for name, (text, labels) in _COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=labels)
            for (of, *values), total in totals.items():
                if of == name:
                    counter.add_metric(values, total)
            yield counter
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(name, text, value=totals[name,])
        yield _collect_deletions(totals)


def _collect_deletions(totals: Mapping[Series, float]) -> Metric:
    histogram = HistogramMetricFamily(_DELETIONS, _DELETIONS_HELP, labels=["outcome"])
    for (of, *labels), seconds in totals.items():
        if of == _SECONDS:
            each = (totals.get((_DELETIONS, *labels, limit), 0) for limit in _LIMITS)
            buckets = list(zip(_LIMITS, accumulate(each), strict=True))
            histogram.add_metric(labels, buckets, seconds)
    return histogram


def render(*gauges: Collector) -> bytes:
    """Return all counts, and what *gauges* read now, in Prometheus' text format."""
    shown = CollectorRegistry()
    for collector in (_Counted(), *gauges):
        shown.register(collector)
    return generate_latest(shown)
