"""What SQLite and Postgres say differently, as peewee expressions.

Each is of the database that is connected when it is made.
"""

from typing import Any

import peewee
from peewee import SQL, fn

from recoup.database.connection import is_postgres

# As `InstantField` writes it, so that the two compare as text.
_INSTANT, _NOW = SQL("'%Y-%m-%dT%H:%M:%fZ'"), SQL("'now'")


def clock() -> peewee.Function:
    """The database's time."""
    return fn.clock_timestamp() if is_postgres() else fn.strftime(_INSTANT, _NOW)


def clock_plus(seconds: Any) -> peewee.Node:
    """The database's time in `seconds`, a number or a placeholder for one."""
    if is_postgres():
        return clock() + peewee.Expression(seconds, "*", SQL("interval '1 second'"))
    return fn.strftime(_INSTANT, _NOW, peewee.Expression(seconds, "||", SQL("' seconds'")))


def instant(value: peewee.ColumnBase) -> peewee.ColumnBase:
    """An instant that another program may have written, to compare with another such.

    On SQLite their text may carry an offset, and then doesn't compare as it reads.
    """
    return value if is_postgres() else fn.julianday(value)


def is_same(left: peewee.Node, right: peewee.Node) -> peewee.Expression:
    """Whether two values are equal or both null."""
    # SQLite knows the standard's words since 3.39 only.
    return peewee.Expression(left, "IS NOT DISTINCT FROM" if is_postgres() else "IS", right)
