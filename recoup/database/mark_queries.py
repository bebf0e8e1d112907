"""The queries of a deletion about its mark; `queries.py` has the others."""

from typing import Any

import peewee
from peewee import Node, fn

from recoup.database.built import Statement
from recoup.database.expressions import clock, clock_plus, instant, is_past
from recoup.database.models import TaskDeletion

# Longer than any lease, which is the deadline (60 seconds at most) and a margin of 15.
LONGEST_LEASE_SECONDS = 120


@Statement
def place_mark(
    task_id: Node, token: Node, requested_by: Node, lease_seconds: Node
) -> peewee.BaseQuery:
    mark = TaskDeletion.insert(
        task=task_id,
        token=token,
        requested_by=requested_by,
        requested_at=clock(),
        lease_expires_at=clock_plus(lease_seconds),
    )
    # Peewee would have Postgres return the key.
    return mark.on_conflict(action="nothing", conflict_target=[TaskDeletion.task]).returning()


def has_expired() -> peewee.Expression:
    """Whether a mark may be taken over, as an expression.

    A lease from before the clock was set back counts as over, too; otherwise the mark would stand
    until the clock is there again. If the owner still works, this is as safe as any lease that has
    run out: see `recoup.deletion.staged`.
    """
    return is_past(TaskDeletion.lease_expires_at, LONGEST_LEASE_SECONDS)


def is_doubtful() -> peewee.Expression:
    """Whether nobody knows what Trigger.dev did, as an expression."""
    return TaskDeletion.doubtful_since.is_null(False)


@Statement
def mark_has_expired(task_id: Node) -> peewee.BaseQuery:
    free = has_expired() | is_doubtful()
    return TaskDeletion.select(free).where(TaskDeletion.task == task_id)


@Statement
def take_over_mark(task_id: Node, token: Node, lease_seconds: Node) -> peewee.BaseQuery:
    lease = clock_plus(lease_seconds)
    return TaskDeletion.update(token=token, lease_expires_at=lease).where(
        TaskDeletion.task == task_id, has_expired(), ~is_doubtful()
    )


@Statement
def take_over_doubt(task_id: Node, token: Node, lease_seconds: Node) -> peewee.BaseQuery:
    # A new request begins anew. By the old one's age the mark would seem to stand for long.
    return _end_doubt(token, lease_seconds, requested_at=clock()).where(
        TaskDeletion.task == task_id, is_doubtful()
    )


@Statement
def go_forward(task_id: Node, token: Node, lease_seconds: Node) -> peewee.BaseQuery:
    return _end_doubt(token, lease_seconds).where(
        TaskDeletion.task == task_id, TaskDeletion.token == token
    )


def _end_doubt(token: Node, lease_seconds: Node, **more: Node) -> peewee.Update:
    lease = clock_plus(lease_seconds)
    return TaskDeletion.update(token=token, lease_expires_at=lease, doubtful_since=None, **more)


@Statement
def turn_doubtful(task_id: Node, token: Node) -> peewee.BaseQuery:
    return TaskDeletion.update(doubtful_since=clock(), lease_expires_at=clock()).where(
        TaskDeletion.task == task_id, TaskDeletion.token == token
    )


@Statement
def claim_doubt(
    task_id: Node, token: Node, age_seconds: Node, lease_seconds: Node
) -> peewee.BaseQuery:
    lease = clock_plus(lease_seconds)
    return TaskDeletion.update(token=token, lease_expires_at=lease).where(
        TaskDeletion.task == task_id, _is_old_doubt(age_seconds)
    )


@Statement
def old_doubts(age_seconds: Node, limit: Node) -> peewee.BaseQuery:
    # A look that fails renews the lease, so those that can't be told now don't hold up the others.
    return (
        TaskDeletion.select(TaskDeletion.task)
        .where(_is_old_doubt(age_seconds))
        .order_by(instant(TaskDeletion.lease_expires_at))
        .limit(limit)
    )


def _is_old_doubt(age_seconds: Node) -> peewee.Expression:
    """Whether a doubt is that old and nobody looks at it; `age_seconds` is below zero.

    Also one that began far ahead of now: the clock was set back, and nobody knows its age.
    """
    old = is_past(TaskDeletion.doubtful_since, LONGEST_LEASE_SECONDS, by=clock_plus(age_seconds))
    return old & has_expired()


@Statement
def remove_mark(task_id: Node, token: Node) -> peewee.BaseQuery:
    return TaskDeletion.delete().where(  # type: ignore[misc]
        TaskDeletion.task == task_id, TaskDeletion.token == token
    )


@Statement
def expired_marks(limit: Node) -> peewee.BaseQuery:
    # By the bare column, SQLite would read its whole index instead of sorting the few rows.
    return (
        TaskDeletion.select(TaskDeletion.task)
        .where(has_expired(), ~is_doubtful())
        .order_by(instant(TaskDeletion.lease_expires_at))
        .limit(limit)
    )


@Statement
def count_marks() -> peewee.BaseQuery:
    return _count(TaskDeletion.requested_at).where(~is_doubtful())


@Statement
def count_doubts() -> peewee.BaseQuery:
    return _count(TaskDeletion.doubtful_since).where(is_doubtful())


def _count(since: Any) -> "peewee.ModelSelect[TaskDeletion]":
    return TaskDeletion.select(fn.COUNT(TaskDeletion.token), fn.MIN(since), clock())
