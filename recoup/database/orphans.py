"""The statements of the guard's collection; `statements.py` has those of a deletion."""

from typing import NamedTuple

from recoup.database import orphan_queries as queries
from recoup.database.statements import count_rows, seconds_between


class Orphan(NamedTuple):
    """A record: the schedule that the row named, the tries so far, and its age when listed."""

    record_id: int
    task_id: str
    schedule_id: str | None
    attempts: int
    age_seconds: float


def record_orphan(task_id: str, seconds: float) -> None:
    """Have the task's key cancelled after these seconds, if there is no row by then."""
    queries.record_orphan.execute(task_id, seconds)


def due_orphans(limit: int) -> list[Orphan]:
    """Return the records that are due, the longest due first."""
    return [
        Orphan(record_id, str(task), schedule, attempts, seconds_between(orphaned_at, now))
        for record_id, task, schedule, attempts, orphaned_at, now in queries.due_orphans.fetch(
            limit
        )
    ]


def claim_orphan(orphan: Orphan, pause_seconds: float) -> bool:
    """Count a try that begins now, and set the next; False if somebody else was faster."""
    return queries.claim_orphan.execute(*orphan[:4], pause_seconds) == 1


def forget_orphan(orphan: Orphan) -> None:
    """Remove a record that was claimed, unless somebody else has claimed it since."""
    queries.forget_orphan.execute(*orphan[:3], orphan.attempts + 1)


def hasten_orphans() -> None:
    """Make all records due whose last try failed."""
    queries.hasten_orphans.execute()


def count_orphans() -> tuple[int, float]:
    """Return how many records there are, and the age of the oldest in seconds."""
    return count_rows(queries.count_orphans)


def hold_collection(token: str, lease_seconds: float) -> bool:
    """Take or renew the collector's lease; False if another has it."""
    return queries.hold_collection.execute(token, lease_seconds) == 1


def end_collection(token: str) -> None:
    """Give the lease back, if it is ours."""
    queries.end_collection.execute(token)
