"""What tests put into the database, and how they look at what has become of it."""

import json
from uuid import uuid4

from recoup.database import statements
from recoup.database.connection import release
from recoup.database.models import (
    Account,
    AccountApiKey,
    AccountEmail,
    AccountOrganization,
    ScheduledAction,
    now,
)
from tests.canaries import assert_no_canary


class World:
    """Rows for one app, and schedules for them at the stand-in. Ids are text."""

    def __init__(self, app, standin):
        self.authenticator = app.extensions["recoup"].authenticator
        self.standin = standin

    def account(self, *, organizations=(), email=None):
        """Make an account that is a member of *organizations*; return its id."""
        account = str(Account.create(name="somebody").id)
        for organization in organizations:
            AccountOrganization.create(account_id=account, organization_id=organization)
        if email:
            AccountEmail.create(account_id=account, email=email)
        release()
        return account

    def key(self, account, *, expires_at=None):
        """Make an API key of *account*; return the key."""
        key = f"recoup_sk_{uuid4().hex}"
        AccountApiKey.create(
            name="test",
            account=account,
            key_hash=self.authenticator.hash_key(key),
            expires_at=expires_at,
        )
        release()
        return key

    def task(self, account, *, schedule=True, **columns):
        """Make a task of *account*, with a schedule unless told otherwise; return its id."""
        task_id = str(uuid4())
        if schedule:
            columns.setdefault("trigger_schedule_id", self.standin.add(task_id))
        ScheduledAction.create(
            id=task_id,
            title="Weekly report",
            prompt="Write the report",
            schedule="0 9 * * 1",
            account_id=account,
            artist_account_id=account,
            **columns,
        )
        release()
        return task_id

    def row(self, task_id):
        """Return the whole row as a dict, columns that we don't know included, or None."""
        return select_row("scheduled_actions", "id", task_id)

    def mark(self, task_id):
        """Return the task's mark as a dict, or None."""
        return select_row("task_deletions", "task_id", task_id)

    def place_mark(self, task_id, *, lease_seconds):
        """Leave a mark as a process that died would; return its token."""
        token = str(uuid4())
        assert statements.place_mark(task_id, token, None, lease_seconds)
        release()
        return token

    def schedule_ids(self, task_id):
        """Return the ids of the task's schedules that are alive at the stand-in."""
        return [
            schedule["id"]
            for schedule in self.standin.schedules.values()
            if schedule["externalId"] == task_id
        ]


def connections_in_use():
    """Return how many connections of this process's pool are in somebody's hands."""
    from recoup.database.connection import database, is_postgres

    if not is_postgres():
        return len(database.obj._in_use)
    stats = database.obj._pool.get_stats()
    return stats.get("pool_size", 0) - stats.get("pool_available", 0)


def select_row(table, column, value):
    """Return a table's row as a dict, or None."""
    from recoup.database.connection import database

    param = database.param
    cursor = database.execute_sql(f"SELECT * FROM {table} WHERE {column} = {param}", (value,))
    row = cursor.fetchone()
    names = [description[0] for description in cursor.description]
    release()
    return row and dict(zip(names, row, strict=True))


def delete(client, task_id, key=None, **kwargs):
    """Send the delete request for *task_id* with *key* in `x-api-key`."""
    headers = {"x-api-key": key} if key else {}
    body = json.dumps({"id": task_id})
    answer = client.delete("/api/tasks", data=body, headers=headers, **kwargs)
    assert_no_canary(f"{answer.headers} {answer.text}", "an answer")
    return answer


__all__ = ["World", "delete", "now", "select_row"]
