"""The guard: triggers on the host's table that record each task whose row others delete.

On Postgres the operator may turn it on. On SQLite `upgrade()` makes it with the tables.
"""

import re
from typing import NamedTuple

import peewee

from recoup.database.connection import DatabaseFailed, database, is_postgres
from recoup.database.failures import explain
from recoup.database.migrations import LOCK_KEY, UPGRADE_SECONDS, read_sql
from recoup.database.models import OrphanedSchedule, ScheduledAction, table_name
from recoup.database.rights import fetch_rows

TRIGGERS = ("recoup_guard", "recoup_guard_truncate")
OTHER_TRIGGER = "The trigger recoup_guard is not the one that this version makes."
DROPPED = """
SET LOCAL lock_timeout = '2s';
DROP TRIGGER IF EXISTS recoup_guard ON public.scheduled_actions;
DROP TRIGGER IF EXISTS recoup_guard_truncate ON public.scheduled_actions;
DROP FUNCTION IF EXISTS public.recoup_guard();
"""


class Guard(NamedTuple):
    """Whether any part of it exists, and a sentence for each fault."""

    is_on: bool
    faults: list[str]

    @property
    def is_whole(self) -> bool:
        return self.is_on and not self.faults


def turn_on() -> None:
    """Make the guard, or mend it; a guard that is whole is left alone.

    Raises:
        DatabaseFailed: with the reason; nothing was changed.
        peewee.PeeweeException: the database can't be asked.
    """
    if not look().is_whole:
        _run(read_sql("guard"))


def turn_off() -> None:
    """Remove the guard; its records stay, and are still collected.

    Raises:
        DatabaseFailed: with the reason; nothing was changed.
        peewee.PeeweeException: the database can't be asked.
    """
    if look().is_on:
        _run(DROPPED)


def _run(script: str) -> None:
    try:
        database.connection().patience = UPGRADE_SECONDS
        with database.atomic():
            database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
            database.execute_sql(script)
    except peewee.PeeweeException as error:
        raise DatabaseFailed(explain(error)) from error


def look() -> Guard:
    """Return the state of the guard.

    Raises:
        peewee.PeeweeException: the database can't be asked.
    """
    if not is_postgres():
        return _look_at_sqlite()
    firing = dict(fetch_rows(TRIGGERS_THERE, table_name(ScheduledAction)))
    functions = fetch_rows(FUNCTION, table_name(OrphanedSchedule))
    if not firing and not functions:
        return Guard(False, [])
    faults = [f"The trigger {t} is missing or disabled." for t in TRIGGERS if not firing.get(t)]
    return Guard(True, faults + _faults_of(functions))


def _look_at_sqlite() -> Guard:
    query = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = 'recoup_guard'"
    triggers = [sql for (sql,) in fetch_rows(query)]
    wanted = read_sql("sqlite").rstrip()
    return Guard(bool(triggers), [OTHER_TRIGGER for sql in triggers if not wanted.endswith(sql)])


def _faults_of(functions: list[tuple[str, list[str], bool]]) -> list[str]:
    if not functions:
        return ["The function recoup_guard is missing."]
    [(source, settings, may_insert)] = functions
    head, wanted, _ = read_sql("guard").split("$guard$")
    faults = []
    if source != wanted or settings != ["=".join(one) for one in SETTING.findall(head)]:
        faults.append("The function recoup_guard is not the one that this version makes.")
    if not may_insert:
        faults.append(
            "The function recoup_guard may not insert into "
            f"{table_name(OrphanedSchedule)}, or there is no such table."
        )
    return faults


# In the head of the function that `guard.sql` makes.
SETTING = re.compile(r"^SET (\w+) = '?(.+?)'?$", re.MULTILINE)
TRIGGERS_THERE = """
SELECT tgname, tgenabled IN ('O', 'A') FROM pg_trigger
WHERE tgrelid = to_regclass('public.' || %s::text)
  AND tgfoid = to_regprocedure('public.recoup_guard()')
"""
# A definer who doesn't own the table needs the right to insert, and to bypass row level security.
FUNCTION = """
SELECT prosrc, coalesce(proconfig, '{}'), prosecdef AND t.oid IS NOT NULL AND (
    rolsuper OR pg_has_role(proowner, relowner, 'USAGE')
    OR rolbypassrls AND has_table_privilege(proowner, t.oid, 'INSERT'))
FROM pg_proc p
JOIN pg_roles r ON r.oid = proowner
LEFT JOIN pg_class t ON t.oid = to_regclass('public.' || %s::text)
WHERE p.oid = to_regprocedure('public.recoup_guard()')
"""
