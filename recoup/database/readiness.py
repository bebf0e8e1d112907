"""Would the database let a deletion be finished? Asked before one is begun.

On Postgres the tables are the host's, and so are the rights: a deletion that can't be finished
would cost a schedule and keep the row.
"""

import time
from threading import Lock

from recoup.database.connection import FAILURES, database, is_postgres, release
from recoup.database.models import MODELS, ScheduledAction, column_names, table_name
from recoup.database.rights import fetch_rows, find_refusals

# How long a look counts that found nothing wrong; longer than the sweep's pause.
GOOD_SECONDS = 60
UNREACHABLE = "The database can't be reached."


class Readiness:
    """What is known of the problems of this process's database. Threads share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._problems: list[str] = []
        self._good_until = float("-inf")
        self._rehearse = False

    def refresh(self) -> list[str]:
        """Look for problems now, and return what is known.

        Where the database can't be reached, nothing new is.
        """
        problems = find_problems()
        if problems != [UNREACHABLE]:
            self._problems = problems
            self._rehearse = not problems and _host_may_refuse()
        self._good_until = time.monotonic() + (0 if problems else GOOD_SECONDS)
        release()
        return self._problems

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
        return find_refusals() if is_postgres() else []
    except FAILURES:
        return [UNREACHABLE]


def missing_from_schema() -> list[str]:
    """Return what the database lacks of the tables and columns that are used here.

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
    # Not from the information schema, which has only what the role has a right to.
    return {name for (name,) in fetch_rows(EXISTING_COLUMNS, table)}


EXISTING_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
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
