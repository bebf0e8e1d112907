"""The database: the one way to run a statement, and how that can fail.

A thread takes a connection from the pool with its first statement and gives it back with
`release()`: before every network call, and at the end of each request, command or sweep.
Each statement commits by itself, so nothing is held open while the thread waits for others.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

import peewee
import psycopg
from playhouse.pool import MaxConnectionsExceeded

from recoup.config import Config
from recoup.database.failures import explain
from recoup.database.pool import make_pool
from recoup.database.postgres import NoConnection
from recoup.database.session import sqlstate

database = peewee.DatabaseProxy()

Row = tuple[Any, ...]
# A statement and its parameters.
Bound = tuple[str, list[Any]]
T = TypeVar("T")


# All that peewee and the drivers beneath it raise.
FAILURES = (peewee.PeeweeException, MaxConnectionsExceeded, psycopg.Error, sqlite3.Error)


class DatabaseFailed(Exception):
    """The database did not run a statement; the cause is chained."""


class ConstraintFailed(DatabaseFailed):
    """A foreign key or a unique constraint forbade a statement."""


class AnswerLost(DatabaseFailed):
    """The statement was sent; nobody knows whether it was or will be carried out."""


def connect(config: Config) -> peewee.Database:
    """Make this process's database; its connections are opened when they are needed."""
    made = make_pool(config)
    database.initialize(made)
    return made


def fetch(sql: str, *params: object) -> list[Row]:
    """Run one statement and return its rows; see `execute`."""
    return _run(sql, params, lambda cursor: cursor.fetchall())


def execute(sql: str, *params: object) -> int:
    """Run one statement and commit it; return how many rows it touched.

    `sql` has the database's own placeholder for a parameter, or `?` on either database.

    Raises:
        ConstraintFailed: a foreign key or unique constraint forbids it.
        AnswerLost: it may have been carried out, or may still be.
        DatabaseFailed: anything else; it was not carried out.
    """
    return _run(sql, params, lambda cursor: int(cursor.rowcount))


def execute_both(first: Bound, second: Bound) -> int:
    """Run on SQLite two statements in one transaction; return how many rows the first touched.

    If that is none, the second is not run.

    Raises:
        DatabaseFailed: neither was carried out.
    """
    try:
        with database.turn(), database.atomic("IMMEDIATE"):
            touched = int(database.execute_sql(*first).rowcount)
            if touched:
                database.execute_sql(*second)
            return touched
    except FAILURES as error:
        release()
        raise DatabaseFailed(explain(error)) from error


def _run(sql: str, params: tuple[object, ...], outcome: Callable[[Any], T]) -> T:
    try:
        return outcome(database.execute_sql(sql.replace("?", database.param), params))
    except peewee.IntegrityError as error:
        raise ConstraintFailed(str(error)) from error
    except FAILURES as error:
        error.args = (explain(error),)  # the log shows it, too
        kind = AnswerLost if _answer_is_lost(error) else DatabaseFailed
        release()  # it may be lost, and the thread's next statement needs a good one
        raise kind(str(error)) from error


def _answer_is_lost(error: Exception) -> bool:
    """Whether a statement was sent and the server has not said how it ended.

    An answer of Postgres has an SQLSTATE, and so does a pooler's message that it lost the server.
    SQLite is not a server.
    """
    said = sqlstate(error)
    unknown = said is None or said.startswith("08") or said == "40003"
    return is_postgres() and not isinstance(error, NoConnection) and unknown


def release() -> None:
    """Give this thread's connection, if it has one, back to the pool."""
    if not database.is_closed():
        database.close()


def is_postgres() -> bool:
    return isinstance(database.obj, peewee.PostgresqlDatabase)
