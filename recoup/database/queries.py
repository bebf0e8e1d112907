"""The queries of a deletion, each built once; `statements.py` runs them.

Each function is called with a placeholder for each value. `expressions.py` has the database's clock
and whatever else differs between SQLite and Postgres.
"""

import peewee
from peewee import JOIN, Node, fn

from recoup.database.built import Statement
from recoup.database.connection import is_postgres
from recoup.database.expressions import clock, instant, is_same
from recoup.database.mark_queries import has_expired
from recoup.database.models import AccountApiKey, AccountEmail, ScheduledAction, TaskDeletion
from recoup.database.scope import may_act_for


@Statement
def find_key(key_hash: Node) -> peewee.BaseQuery:
    expires_at = AccountApiKey.expires_at
    # Null if another program has written something else, which then counts as over.
    valid = expires_at.is_null() | (instant(expires_at) > instant(clock()))
    return (
        AccountApiKey.select(AccountApiKey.id, AccountApiKey.account, valid)
        .where(AccountApiKey.key_hash == key_hash, AccountApiKey.account.is_null(False))
        .order_by(valid.desc())
        .limit(1)
    )


@Statement
def account_of_email(email: Node) -> peewee.BaseQuery:
    return (
        AccountEmail.select(AccountEmail.account_id)
        .where(AccountEmail.email == email, AccountEmail.account_id.is_null(False))
        .order_by(AccountEmail.updated_at)
        .limit(1)
    )


@Statement
def find_task(task_id: Node, caller: Node, admin_organization: Node) -> peewee.BaseQuery:
    allowed = may_act_for(ScheduledAction.account_id, caller, admin_organization)
    return ScheduledAction.select(
        ScheduledAction.trigger_schedule_id, allowed, ScheduledAction.account_id, _title_length()
    ).where(ScheduledAction.id == task_id)


def _title_length() -> peewee.Function:
    return fn.LENGTH(ScheduledAction.title)


@Statement
def find_standing(task_id: Node) -> peewee.BaseQuery:
    return (
        ScheduledAction.select(
            ScheduledAction.trigger_schedule_id,
            TaskDeletion.token,
            TaskDeletion.requested_by,
            ScheduledAction.account_id,
            _title_length(),
        )
        .join(TaskDeletion, JOIN.LEFT_OUTER)
        .where(ScheduledAction.id == task_id)
    )


@Statement
def remove_task(task_id: Node, schedule_id: Node, token: Node) -> peewee.BaseQuery:
    mark = TaskDeletion.select(TaskDeletion.token).where(
        TaskDeletion.task == task_id, TaskDeletion.token == token
    )
    row = ScheduledAction
    unchanged = [row.id == task_id, is_same(row.trigger_schedule_id, schedule_id), fn.EXISTS(mark)]
    if is_postgres():
        # For this transaction, which is the statement; see `migrations/guard.sql`.
        told = fn.set_config("recoup.deleting", task_id, True).is_null(False)
        unchanged.append(told)
    return row.delete().where(*unchanged)  # type: ignore[misc]


@Statement
def sample_schedules(task_id: Node, first_id: Node, limit: Node) -> peewee.BaseQuery:
    in_the_middle = TaskDeletion.select(TaskDeletion.token).where(
        TaskDeletion.task == ScheduledAction.id, has_expired()
    )
    return (
        ScheduledAction.select(ScheduledAction.trigger_schedule_id)
        .where(
            ScheduledAction.id >= first_id,
            ScheduledAction.id != task_id,
            # Null counts, too: with fewer to ask, a 404 is believed more easily.
            fn.COALESCE(ScheduledAction.enabled, True),
            ScheduledAction.trigger_schedule_id != "",
            # The schedule of a deletion that was left in the middle may be gone.
            ~fn.EXISTS(in_the_middle),
        )
        .order_by(ScheduledAction.id)
        .limit(limit)
    )


@Statement
def read_clock() -> peewee.BaseQuery:
    return peewee.Select(columns=[clock()])
