"""The tables: the host's five, as far as we know them, and our own three.

On SQLite this is the schema. On Postgres the host made its tables, may have columns that are
not here, and `migrations/postgres.sql` adds ours.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import peewee

from recoup.database.connection import database


class UUIDField(peewee.UUIDField):
    """A UUID; on SQLite canonical text, so that any tool can read the file."""

    def db_value(self, value: UUID | str | None) -> str | None:
        return None if value is None else str(UUID(str(value)))

    def python_value(self, value: UUID | str | None) -> UUID | None:
        return None if value is None else UUID(str(value))


class InstantField(peewee.DateTimeField):
    """An instant with its zone; on SQLite ISO 8601 text in UTC with milliseconds and a Z."""

    field_type = "TIMESTAMPTZ"

    def db_value(self, value: datetime | None) -> str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        text = value.astimezone(UTC).isoformat(timespec="milliseconds")
        return text.replace("+00:00", "Z")

    def python_value(self, value: datetime | str | None) -> datetime | None:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        return value and value.astimezone(UTC)


def now() -> datetime:
    """Return this instant."""
    return datetime.now(UTC)


# Defaults of the host's, for programs that insert rows into SQLite without these models.
_NEW_ID = peewee.SQL("""DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' ||
    substr(hex(randomblob(2)), 2) || '-' || substr('89ab', 1 + (random() & 3), 1) ||
    substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))""")
_NOW = peewee.SQL("DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))")
_TRUE = peewee.SQL("DEFAULT 1")


class _Model(peewee.Model):
    id = UUIDField(primary_key=True, default=uuid4, constraints=[_NEW_ID])

    class Meta:
        database = database
        legacy_table_names = False


class Account(_Model):
    name = peewee.TextField(null=True)

    class Meta:
        table_name = "accounts"


class AccountEmail(_Model):
    account_id = UUIDField(null=True)
    email = peewee.TextField(null=True, index=True)
    updated_at = InstantField(default=now, constraints=[_NOW])

    class Meta:
        table_name = "account_emails"


class AccountApiKey(_Model):
    """`key_hash`: hex HMAC-SHA256 of the key; `expires_at`: never, if null."""

    name = peewee.TextField()
    account = UUIDField(null=True)
    key_hash = peewee.TextField(null=True, index=True)
    created_at = InstantField(default=now, constraints=[_NOW])
    last_used = peewee.TextField(null=True)
    expires_at = InstantField(null=True)

    class Meta:
        table_name = "account_api_keys"


class AccountOrganization(_Model):
    account_id = UUIDField()
    organization_id = UUIDField()
    updated_at = InstantField(default=now, constraints=[_NOW])

    class Meta:
        table_name = "account_organization_ids"
        indexes = ((("account_id", "organization_id"), True),)


class ScheduledAction(_Model):
    """A task. `schedule`: its cron expression; `trigger_schedule_id`: what fires it."""

    title = peewee.TextField()
    prompt = peewee.TextField()
    schedule = peewee.TextField()
    account_id = UUIDField(index=True)
    artist_account_id = UUIDField()
    enabled = peewee.BooleanField(null=True, default=True, constraints=[_TRUE])
    last_run = InstantField(null=True)
    next_run = InstantField(null=True)
    created_at = InstantField(null=True, default=now, constraints=[_NOW])
    updated_at = InstantField(null=True, default=now, constraints=[_NOW])
    trigger_schedule_id = peewee.TextField(null=True)
    model = peewee.TextField(null=True)

    class Meta:
        table_name = "scheduled_actions"


class TaskDeletion(peewee.Model):
    """The mark of a deletion that is under way; see `recoup.deletion.staged`.

    `doubtful_since`: since when the deletion is in doubt; see `recoup.deletion.doubt`.
    `token`: the owner's; `requested_by`: an account, or null for an operator.
    """

    task = peewee.ForeignKeyField(
        ScheduledAction, primary_key=True, column_name="task_id", on_delete="CASCADE"
    )
    token = UUIDField()
    requested_by = UUIDField(null=True)
    requested_at = InstantField()
    lease_expires_at = InstantField(index=True)
    doubtful_since = InstantField(null=True)

    class Meta:
        database = database
        table_name = "task_deletions"


class OrphanedSchedule(peewee.Model):
    """A task whose row others deleted, and what the row named; see `recoup.deletion.guard`.

    `due_at`: when to try next; `attempts`: how many tries have begun.
    """

    id = peewee.AutoField()
    task_id = UUIDField()
    trigger_schedule_id = peewee.TextField(null=True)
    orphaned_at = InstantField()
    due_at = InstantField(index=True)
    attempts = peewee.IntegerField()

    class Meta:
        database = database
        table_name = "orphaned_schedules"


class OrphanCollector(peewee.Model):
    """The lease of the worker that collects orphans: at most one row."""

    id = peewee.IntegerField(primary_key=True)
    token = UUIDField()
    lease_expires_at = InstantField()

    class Meta:
        database = database
        table_name = "orphan_collector"


HOST_MODELS: tuple[type[peewee.Model], ...] = (
    Account,
    AccountEmail,
    AccountApiKey,
    AccountOrganization,
    ScheduledAction,
)
OWN_MODELS: tuple[type[peewee.Model], ...] = (TaskDeletion, OrphanedSchedule, OrphanCollector)
MODELS = (*HOST_MODELS, *OWN_MODELS)


def table_name(model: Any) -> str:
    """Return the name of a model's table."""
    return str(model._meta.table_name)


def column_names(model: Any) -> list[str]:
    """Return the names of a model's columns."""
    return list(model._meta.columns)
