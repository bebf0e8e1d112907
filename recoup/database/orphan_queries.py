"""The queries of the guard's collection; `queries.py` has those of a deletion."""

import peewee
from peewee import Node, fn

from recoup.database.built import Statement
from recoup.database.expressions import clock, clock_plus, instant, is_past, is_same
from recoup.database.mark_queries import LONGEST_LEASE_SECONDS
from recoup.database.models import OrphanCollector, OrphanedSchedule

# The only row of `orphan_collector`.
THE_COLLECTOR = 1
LONGEST_PAUSE_SECONDS = 3600


@Statement
def record_orphan(task_id: Node, seconds: Node) -> peewee.BaseQuery:
    record = OrphanedSchedule.insert(
        task_id=task_id, orphaned_at=clock(), due_at=clock_plus(seconds), attempts=0
    )
    return record.returning()


@Statement
def forget_own_orphan(task_id: Node) -> peewee.BaseQuery:
    newest = OrphanedSchedule.alias("newest")
    return OrphanedSchedule.delete().where(  # type: ignore[misc]
        OrphanedSchedule.id == newest.select(fn.MAX(newest.id)),
        OrphanedSchedule.task_id == task_id,
    )


@Statement
def due_orphans(limit: Node) -> peewee.BaseQuery:
    # By the bare column, SQLite would read its whole index instead of sorting the few rows.
    record = OrphanedSchedule
    return (
        record.select(
            record.id,
            record.task_id,
            record.trigger_schedule_id,
            record.attempts,
            record.orphaned_at,
            clock(),
        )
        .where(is_past(record.due_at, LONGEST_PAUSE_SECONDS))
        .order_by(instant(record.due_at), record.id)
        .limit(limit)
    )


@Statement
def claim_orphan(
    record_id: Node, task_id: Node, schedule_id: Node, attempts: Node, pause_seconds: Node
) -> peewee.BaseQuery:
    record, pause = OrphanedSchedule, clock_plus(pause_seconds)
    update = record.update(attempts=record.attempts + 1, due_at=pause)
    return update.where(*_is_record(record_id, task_id, schedule_id, attempts))


@Statement
def forget_orphan(
    record_id: Node, task_id: Node, schedule_id: Node, attempts: Node
) -> peewee.BaseQuery:
    removal = OrphanedSchedule.delete()  # type: ignore[misc]
    return removal.where(*_is_record(record_id, task_id, schedule_id, attempts))


def _is_record(
    record_id: Node, task_id: Node, schedule_id: Node, attempts: Node
) -> tuple[peewee.Expression, ...]:
    """Whether it is that record. SQLite gives the id of one that was removed to another."""
    record = OrphanedSchedule
    return (
        record.id == record_id,
        record.task_id == task_id,
        is_same(record.trigger_schedule_id, schedule_id),
        record.attempts == attempts,
    )


@Statement
def hasten_orphans() -> peewee.BaseQuery:
    return OrphanedSchedule.update(due_at=clock()).where(OrphanedSchedule.attempts > 0)


@Statement
def count_orphans() -> peewee.BaseQuery:
    record = OrphanedSchedule
    return record.select(fn.COUNT(record.id), fn.MIN(record.orphaned_at), clock())


@Statement
def hold_collection(token: Node, lease_seconds: Node) -> peewee.BaseQuery:
    collector, lease = OrphanCollector, clock_plus(lease_seconds)
    free = is_past(collector.lease_expires_at, LONGEST_LEASE_SECONDS)
    claim = collector.insert(id=THE_COLLECTOR, token=token, lease_expires_at=lease)
    return claim.on_conflict(
        conflict_target=[collector.id],
        update={collector.token: token, collector.lease_expires_at: lease},
        where=(collector.token == token) | free,
    ).returning()


@Statement
def end_collection(token: Node) -> peewee.BaseQuery:
    return OrphanCollector.delete().where(OrphanCollector.token == token)  # type: ignore[misc]
