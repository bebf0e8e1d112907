"""What Prometheus is told: counted from the notes that make up each line of the log.

Each worker counts in files of its own, in a folder that `gunicorn.conf.py` makes and names in
`PROMETHEUS_MULTIPROC_DIR` before this is imported; whichever worker is asked adds them all up,
those of dead workers too. Without that variable there is this process alone.
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

DELETION_ROUTE = "/api/tasks"
# What became of a request to delete: the `state` of its line in the log, or one of two others.
OUTCOMES = ("deleted", "kept", "in doubt", "marked", "refused", "failed")
RECOVERIES = ("deleted", "marked", "overtaken")
DOUBTS = ("kept", "deleted", "in doubt", "marked", "overtaken")
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)

_counted = CollectorRegistry()
_requests = Counter(
    "recoup_requests",
    "Requests that were answered, by the rule of their route and the status.",
    ["route", "status"],
    registry=_counted,
)
_deletions = Histogram(
    "recoup_deletion_seconds",
    "How long requests to delete a task took, by what became of them: the state in the log, "
    "else refused (4xx) or failed (5xx, and nothing was changed).",
    ["outcome"],
    buckets=BUCKETS,
    registry=_counted,
)
_cancel_attempts = Counter(
    "recoup_cancel_attempts",
    "Calls to Trigger.dev to cancel a schedule, by the status of its answer.",
    ["status"],
    registry=_counted,
)
_schedules_missing = Counter(
    "recoup_schedules_missing",
    "Deletions of tasks that name a schedule which was gone, though nobody here had cancelled it.",
    registry=_counted,
)
_recoveries = Counter(
    "recoup_recoveries",
    "Deletions that were found in the middle, by what became of them: deleted, marked (tried "
    "in vain, and again later) or overtaken (by another worker).",
    ["outcome"],
    registry=_counted,
)
_doubts = Counter(
    "recoup_doubts_settled",
    "Looks at deletions in doubt, by what was found: kept (the task is whole), deleted (the "
    "deletion was completed), in doubt (not to be told yet), marked (tried in vain, and again "
    "later) or overtaken (by a request or another worker).",
    ["outcome"],
    registry=_counted,
)


@cache
def _series(metric: Any, *labels: object) -> Any:
    """Return one series of a metric; to look it up there takes a lock and ten times as long."""
    return metric.labels(*labels)


# A rate is blind to the first event of a series that begins with it.
for _outcome in OUTCOMES:
    _series(_deletions, _outcome)
for _outcome in RECOVERIES:
    _series(_recoveries, _outcome)
for _outcome in DOUBTS:
    _series(_doubts, _outcome)


def count_request(notes: Mapping[str, Any]) -> None:
    """Count a request by what its line in the log says."""
    route = notes.get("route")
    _series(_requests, route or "unknown", notes["status"]).inc()
    if route == DELETION_ROUTE and notes["method"] == "DELETE":
        failed = "failed" if notes["status"] >= 500 else "refused"
        _series(_deletions, notes.get("state", failed)).observe(notes["ms"] / 1000)
        _count_cancel(notes)


def count_settling(event: str, notes: Mapping[str, Any]) -> None:
    """Count a `recovery` or a `doubt` by what its line in the log says."""
    _series(_recoveries if event == "recovery" else _doubts, notes["state"]).inc()
    _count_cancel(notes)


def _count_cancel(notes: Mapping[str, Any]) -> None:
    for status in notes.get("upstream_statuses", ()):
        _series(_cancel_attempts, status or "none").inc()
    if notes.get("missing"):
        _schedules_missing.inc()


def render(*gauges: Collector) -> bytes:
    """Return all that was counted, and what *gauges* read now, in Prometheus' text format."""
    shown = CollectorRegistry()
    for gauge in gauges:
        shown.register(gauge)
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
    else:
        shown.register(_counted)
    return generate_latest(shown)
