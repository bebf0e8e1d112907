"""Would the database let a deletion be finished? Asked before one is begun.

On Postgres the tables are the host's, and so are the rights: a deletion that can't be finished
would cost a schedule and keep the row.
"""

import time
from threading import Lock
from typing import Any, TypeAlias

from recoup.database.connection import FAILURES, database, is_postgres, release
from recoup.database.models import (
    MODELS,
    AccountApiKey,
    AccountEmail,
    AccountOrganization,
    ScheduledAction,
    TaskDeletion,
)

# peewee doesn't type what a model says of itself.
Model: TypeAlias = Any

# How long what was found counts: longer than the sweep's pause where all is well.
GOOD_SECONDS = 60
BAD_SECONDS = 1
UNREACHABLE = "The database can't be reached."
# What the statements of a deletion and a recovery read.
READ: dict[Model, tuple[str, ...]] = {
    AccountApiKey: ("account", "expires_at", "key_hash"),
    AccountEmail: ("account_id", "email", "updated_at"),
    AccountOrganization: ("account_id", "organization_id"),
    ScheduledAction: ("account_id", "enabled", "id", "trigger_schedule_id"),
}
OWN: tuple[Model, ...] = (TaskDeletion,)


class Readiness:
    """What is known of the problems of this process's database. Threads share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._problems: list[str] = []
        self._good_until = float("-inf")
        self._rehearse = False

    def refresh(self) -> None:
        """Look for problems now; where the database can't be reached, nothing new is known."""
        problems = find_problems()
        if problems != [UNREACHABLE]:
            self._problems = problems
            self._rehearse = not problems and _host_may_refuse()
        self._good_until = time.monotonic() + (BAD_SECONDS if problems else GOOD_SECONDS)
        release()

    def problems(self, task_id: str) -> list[str]:
        """Return what keeps this task's deletion from being finished, a sentence each."""
        if time.monotonic() > self._good_until:
            with self._lock:
                if time.monotonic() > self._good_until:
                    self.refresh()
        if self._rehearse and (refusal := rehearse(task_id)):
            return [refusal]
        return self._problems


def find_problems() -> list[str]:
    """Return what keeps every deletion from being finished, a sentence each."""
    try:
        missing = missing_from_schema()
        if missing:
            return [f"The database lacks {', '.join(missing)}: run `recoup db upgrade`."]
        return _find_refusals() if is_postgres() else []
    except FAILURES:
        return [UNREACHABLE]


def missing_from_schema() -> list[str]:
    """Return what the database lacks of the tables and columns that are used here.

    Raises:
        peewee.PeeweeException: the database can't be asked.
    """
    missing = []
    tables = set(database.get_tables())
    for model in MODELS:
        table = _name(model)
        if table not in tables:
            missing.append(f"table {table}")
            continue
        there = {column.name for column in database.get_columns(table)}
        missing += [f"column {table}.{name}" for name in _columns(model) if name not in there]
    return missing


def _find_refusals() -> list[str]:
    return [
        *(f"The role lacks {lack}." for lack in _lacking_rights()),
        *(f"Row level security hides rows from this role in {t}." for t in _hidden_tables()),
        *_read_only(),
        *(f"The foreign key {name} forbids deleting tasks." for name in _forbidding_keys()),
    ]


def _lacking_rights() -> list[str]:
    """Return the rights that the role lacks; those that were granted by column count."""
    wanted = [(_name(ScheduledAction), "", "DELETE")]
    for model, columns in READ.items():
        wanted += [(_name(model), column, "SELECT") for column in columns]
    for model in OWN:
        wanted.append((_name(model), "", "DELETE"))
        wanted += [(_name(model), c, r) for r in RIGHTS for c in _columns(model)]
    rows = fetch_rows(LACKING_RIGHTS, *(list(column) for column in zip(*wanted, strict=True)))
    return [f"{right} on {table}" for table, right in rows]


RIGHTS = ("SELECT", "INSERT", "UPDATE")
LACKING_RIGHTS = """
SELECT DISTINCT name, wanted
FROM unnest(%s::text[], %s::text[], %s::text[]) AS wanted(name, part, wanted)
WHERE NOT CASE part WHEN '' THEN has_table_privilege(name, wanted)
                    ELSE has_column_privilege(name, part, wanted) END
ORDER BY name, wanted
"""


def _hidden_tables() -> list[str]:
    names = [_name(model) for model in (*READ, *OWN)]
    rows = fetch_rows("SELECT t FROM unnest(%s::text[]) t WHERE row_security_active(t)", names)
    return [name for (name,) in rows]


def _read_only() -> list[str]:
    [(setting,)] = fetch_rows("SELECT current_setting('transaction_read_only')")
    return ["The session is read-only."] if setting == "on" else []


def _forbidding_keys() -> list[str]:
    """Return the host's foreign keys to a task that neither cascade nor let go."""
    return [name for (name,) in fetch_rows(FORBIDDING_KEYS)]


FORBIDDING_KEYS = """
SELECT conname FROM pg_constraint
WHERE contype = 'f' AND confrelid = 'scheduled_actions'::regclass AND confdeltype IN ('a', 'r')
"""


def _host_may_refuse() -> bool:
    """Whether triggers of the host's see a task's deletion, and may stop it."""
    query = POSTGRES_TRIGGERS if is_postgres() else SQLITE_TRIGGERS
    return bool(fetch_rows(query))


POSTGRES_TRIGGERS = """
SELECT 1 FROM pg_trigger
WHERE tgrelid = 'scheduled_actions'::regclass AND NOT tgisinternal AND tgtype & 8 <> 0
  AND tgenabled <> 'D' AND tgname NOT LIKE 'recoup%%'
"""
SQLITE_TRIGGERS = """
SELECT 1 FROM sqlite_master
WHERE type = 'trigger' AND tbl_name = 'scheduled_actions' AND name NOT LIKE 'recoup%'
"""


def rehearse(task_id: str) -> str | None:
    """Delete the row and take it back at once; return what stands against it, if anything."""
    try:
        with database.atomic() as transaction:
            query = ScheduledAction.delete()  # type: ignore[misc]
            gone = query.where(ScheduledAction.id == task_id).execute()
            transaction.rollback()
    except FAILURES:
        return "The database refuses to delete this task."
    return None if gone else "The database does not delete this task: a trigger keeps it."


def fetch_rows(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """Run a statement on the catalog and return its rows."""
    cursor = database.execute_sql(sql, params)
    return list(cursor.fetchall())


def _name(model: Model) -> str:
    return str(model._meta.table_name)


def _columns(model: Model) -> list[str]:
    return list(model._meta.columns)
