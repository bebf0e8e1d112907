"""What a deletion asks of the database: each statement's query, built once; see `statements.py`.

Each function is called with a placeholder for each value. The database's clock, and what else
differs between SQLite and Postgres, is in `expressions.py`.
"""

from typing import Any

import peewee
from peewee import JOIN, Node, fn

from recoup.database.built import Statement
from recoup.database.connection import is_postgres
from recoup.database.expressions import clock, clock_plus, instant, is_same
from recoup.database.models import AccountApiKey, AccountEmail, ScheduledAction, TaskDeletion
from recoup.database.scope import may_act_for

# Longer than any lease: that is the deadline, 60 seconds at the most, and a margin of 15.
LONGEST_LEASE_SECONDS = 120


@Statement
def account_of_key(key_hash: Node) -> peewee.BaseQuery:
    expires_at = AccountApiKey.expires_at
    return (
        AccountApiKey.select(AccountApiKey.account)
        .where(
            AccountApiKey.key_hash == key_hash,
            AccountApiKey.account.is_null(False),
            expires_at.is_null() | (instant(expires_at) > instant(clock())),
        )
        .limit(1)
    )


@Statement
def account_of_emails(*emails: Node) -> peewee.BaseQuery:
    return (
        AccountEmail.select(AccountEmail.account_id)
        .where(AccountEmail.email.in_(emails), AccountEmail.account_id.is_null(False))
        .order_by(AccountEmail.updated_at)
        .limit(1)
    )


@Statement
def find_task(task_id: Node, caller: Node, admin_organization: Node) -> peewee.BaseQuery:
    allowed = may_act_for(ScheduledAction.account_id, caller, admin_organization)
    return ScheduledAction.select(ScheduledAction.trigger_schedule_id, allowed).where(
        ScheduledAction.id == task_id
    )


@Statement
def find_standing(task_id: Node) -> peewee.BaseQuery:
    return (
        ScheduledAction.select(ScheduledAction.trigger_schedule_id, TaskDeletion.token)
        .join(TaskDeletion, JOIN.LEFT_OUTER)
        .where(ScheduledAction.id == task_id)
    )


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
    """Whether a mark is free to be taken over, as an expression.

    SQLite's clock is the machine's, and may be set back. A lease that then ends further ahead
    than any lease can was given before that, and counts as over, or the mark would stand until
    the clock is there again. This is as safe where its owner still works as any lease that has
    run out: see `recoup.deletion.staged`.
    """
    over: peewee.Expression = TaskDeletion.lease_expires_at <= clock()
    if is_postgres():
        return over
    return over | (TaskDeletion.lease_expires_at > clock_plus(LONGEST_LEASE_SECONDS))


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
    return _end_doubt(token, lease_seconds).where(TaskDeletion.task == task_id, is_doubtful())


@Statement
def go_forward(task_id: Node, token: Node, lease_seconds: Node) -> peewee.BaseQuery:
    return _end_doubt(token, lease_seconds).where(
        TaskDeletion.task == task_id, TaskDeletion.token == token
    )


def _end_doubt(token: Node, lease_seconds: Node) -> peewee.Update:
    lease = clock_plus(lease_seconds)
    return TaskDeletion.update(token=token, lease_expires_at=lease, doubtful_since=None)


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
    return (
        TaskDeletion.select(TaskDeletion.task)
        .where(_is_old_doubt(age_seconds))
        .order_by(TaskDeletion.doubtful_since)
        .limit(limit)
    )


def _is_old_doubt(age_seconds: Node) -> peewee.Expression:
    """Whether a doubt is so old, and nobody else is looking at it; `age_seconds` below zero."""
    old: peewee.Expression = TaskDeletion.doubtful_since <= clock_plus(age_seconds)
    return old & has_expired()


@Statement
def remove_task(task_id: Node, schedule_id: Node, token: Node) -> peewee.BaseQuery:
    mark = TaskDeletion.select(TaskDeletion.token).where(
        TaskDeletion.task == task_id, TaskDeletion.token == token
    )
    return ScheduledAction.delete().where(  # type: ignore[misc]
        ScheduledAction.id == task_id,
        is_same(ScheduledAction.trigger_schedule_id, schedule_id),
        fn.EXISTS(mark),
    )


@Statement
def remove_mark(task_id: Node, token: Node) -> peewee.BaseQuery:
    return TaskDeletion.delete().where(  # type: ignore[misc]
        TaskDeletion.task == task_id, TaskDeletion.token == token
    )


@Statement
def expired_marks(limit: Node) -> peewee.BaseQuery:
    return (
        TaskDeletion.select(TaskDeletion.task)
        .where(has_expired(), ~is_doubtful())
        .order_by(TaskDeletion.lease_expires_at)
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


@Statement
def sample_schedules(task_id: Node, first_id: Node, limit: Node) -> peewee.BaseQuery:
    return (
        ScheduledAction.select(ScheduledAction.trigger_schedule_id)
        .where(
            ScheduledAction.id >= first_id,
            ScheduledAction.id != task_id,
            ScheduledAction.enabled,
            ScheduledAction.trigger_schedule_id != "",
        )
        .order_by(ScheduledAction.id)
        .limit(limit)
    )


@Statement
def read_clock() -> peewee.BaseQuery:
    return peewee.Select(columns=[clock()])
