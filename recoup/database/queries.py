"""What a deletion asks of the database: each statement's query, built once; see `statements.py`.

Each function is called with a placeholder for each value. The database's clock, and what else
differs between SQLite and Postgres, is in `expressions.py`.
"""

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


@Statement
def mark_has_expired(task_id: Node) -> peewee.BaseQuery:
    return TaskDeletion.select(has_expired()).where(TaskDeletion.task == task_id)


@Statement
def take_over_mark(task_id: Node, token: Node, lease_seconds: Node) -> peewee.BaseQuery:
    lease = clock_plus(lease_seconds)
    return TaskDeletion.update(token=token, lease_expires_at=lease).where(
        TaskDeletion.task == task_id, has_expired()
    )


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
        .where(has_expired())
        .order_by(TaskDeletion.lease_expires_at)
        .limit(limit)
    )


@Statement
def count_marks() -> peewee.BaseQuery:
    oldest = fn.MIN(TaskDeletion.requested_at)
    return TaskDeletion.select(fn.COUNT(TaskDeletion.token), oldest, clock())


@Statement
def read_clock() -> peewee.BaseQuery:
    return peewee.Select(columns=[clock()])
