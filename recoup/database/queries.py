"""What a deletion asks of the database: each statement's query, built once; see `statements.py`.

Each function is called with a placeholder for each value. The database's clock, and what else
differs between SQLite and Postgres, is in `expressions.py`.
"""

import peewee
from peewee import JOIN, Node, fn

from recoup.database.built import Statement
from recoup.database.expressions import clock, instant, is_same
from recoup.database.models import AccountApiKey, AccountEmail, ScheduledAction, TaskDeletion
from recoup.database.scope import may_act_for


@Statement
def find_key(key_hash: Node) -> peewee.BaseQuery:
    expires_at = AccountApiKey.expires_at
    expired = expires_at.is_null(False) & (instant(expires_at) <= instant(clock()))
    return (
        AccountApiKey.select(AccountApiKey.id, AccountApiKey.account, expired)
        .where(AccountApiKey.key_hash == key_hash, AccountApiKey.account.is_null(False))
        .order_by(expired)
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
