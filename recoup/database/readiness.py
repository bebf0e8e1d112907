"""Would the database let a deletion be finished? This is checked before one begins.

On Postgres the tables are the host's, and so are the rights: a deletion that can't be finished
would cost a schedule and keep the row.
"""

import time
from threading import Lock

import peewee

from recoup.database.connection import FAILURES, DatabaseFailed, database, is_postgres, release
from recoup.database.failures import explain
from recoup.database.models import (
    MODELS,
    ScheduledAction,
    TaskDeletion,
    column_names,
    table_name,
)
from recoup.database.rights import fetch_rows, find_refusals

# How long a check without problems is valid; longer than the sweep's pause.
GOOD_SECONDS = 60
UNREACHABLE = "The database can't be reached."


class Readiness:
    """The known problems of this process's database. Threads share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._problems: list[str] = []
        self._good_until = float("-inf")
        self._must_try = False

    def refresh(self) -> list[str]:
        """Look for problems now, and return them.

        Raises:
            DatabaseFailed: the database can't be asked.
        """
        try:
            problems = _look()
            self._must_try = not problems and _host_may_refuse()
        except FAILURES as error:
            self._good_until = float("-inf")
            raise DatabaseFailed(explain(error)) from error
        finally:
            release()
        self._problems = problems
        self._good_until = time.monotonic() + (0 if problems else GOOD_SECONDS)
        return problems

    def problems(self, task_id: str) -> list[str]:
        """Return a sentence for each problem that stands against deleting this task.

        Raises:
            DatabaseFailed: that can't be told now.
        """
        if time.monotonic() > self._good_until:
            with self._lock:
                if time.monotonic() > self._good_until:
                    self.refresh()
        if self._must_try and (refusal := try_out(task_id)):
            return [refusal]
        return self._problems


def find_problems() -> list[str]:
    """Return a sentence for each problem that stands against every deletion."""
    try:
        return _look()
    except FAILURES:
        return [UNREACHABLE]


def _look() -> list[str]:
    missing = missing_from_schema()
    if missing:
        return [f"The database lacks {', '.join(missing)}: {how_to_upgrade()}."]
    return find_refusals() if is_postgres() else []


def how_to_upgrade() -> str:
    """Say what adds that which the database lacks; on Postgres the service's role may not."""
    return "run `recoup db upgrade`" + (" as the owner of the tables" if is_postgres() else "")


def missing_from_schema() -> list[str]:
    """Return the tables and columns that the database lacks.

    Raises:
        peewee.PeeweeException: the database can't be asked.
    """
    missing = []
    for model in MODELS:
        there = _existing_columns(table_name(model))
        if there:
            lacking = [name for name in column_names(model) if name not in there]
            missing += [f"column {table_name(model)}.{name}" for name in lacking]
        else:
            missing.append(f"table {table_name(model)}")
    return missing


def _existing_columns(table: str) -> set[str]:
    if not is_postgres():
        return {column.name for column in database.get_columns(table)}
    # Not from the information schema, which shows only what the role has a right to.
    return {name for (name,) in fetch_rows(EXISTING_COLUMNS, table)}


EXISTING_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""


def _host_may_refuse() -> bool:
    """Whether the host has triggers, rules or foreign keys that may stop a task's deletion."""
    query = POSTGRES_OBSTACLES if is_postgres() else SQLITE_OBSTACLES
    table, marks = table_name(ScheduledAction), table_name(TaskDeletion)
    return bool(fetch_rows(query, table, marks, table))


# A foreign key has triggers, too. Ours is that of the marks.
POSTGRES_OBSTACLES = """
SELECT 1 FROM pg_trigger
WHERE tgrelid = %s::regclass AND tgtype & 8 <> 0
  AND tgconstrrelid <> %s::regclass
  AND tgenabled <> 'D' AND tgname <> 'recoup_guard'
UNION ALL SELECT 1 FROM pg_rewrite
WHERE ev_class = %s::regclass AND ev_type = '4' AND ev_enabled <> 'D'
"""
SQLITE_OBSTACLES = """
SELECT 1 FROM sqlite_master
WHERE type = 'trigger' AND tbl_name = ? AND name <> 'recoup_guard'
UNION ALL SELECT 1 FROM sqlite_master AS other, pragma_foreign_key_list(other.name) AS key
WHERE other.type = 'table' AND other.name <> ? AND key."table" = ?
"""


def try_out(task_id: str) -> str | None:
    """Delete the row and take that back at once; return what stands against it, if anything.

    Raises:
        DatabaseFailed: that can't be told now.
    """
    try:
        if _try_to_delete(task_id) or not _exists(task_id):
            return None
    except (peewee.IntegrityError, peewee.InternalError, peewee.ProgrammingError) as error:
        return f"The database refuses to delete this task: {explain(error)}"
    except FAILURES as error:
        release()
        raise DatabaseFailed(explain(error)) from error
    return "The database does not delete this task: a trigger or a rule keeps it."


def _try_to_delete(task_id: str) -> bool:
    with database.atomic() as transaction:
        query = ScheduledAction.delete()  # type: ignore[misc]
        gone = query.where(ScheduledAction.id == task_id).execute()
        if is_postgres():
            database.execute_sql("SET CONSTRAINTS ALL IMMEDIATE")  # as at a commit
        transaction.rollback()
    return bool(gone)


def _exists(task_id: str) -> bool:
    row = ScheduledAction
    return bool(row.select(row.id).where(row.id == task_id).exists())
