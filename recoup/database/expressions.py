"""What differs between SQLite and Postgres, as peewee expressions.

Each is for the database that is connected when the expression is made.
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


def is_past(moment: Any, longest: float, by: peewee.Node | None = None) -> peewee.Expression:
    """Whether an instant of ours has passed, by now or `by` another time.

    It is never further ahead of now than `longest` seconds. One that is was written before the
    clock was set back, or by a server whose clock was ahead of this one's, and counts as passed.
    """
    over: peewee.Expression = (moment <= (by or clock())) | (moment > clock_plus(longest))
    return over


def instant(value: peewee.ColumnBase) -> peewee.ColumnBase:
    """An instant that another program may have written, in a form that can be compared.

    On SQLite its text may have an offset, and then the order of the texts is not that of the times.
    """
    return value if is_postgres() else fn.julianday(value)


def is_same(left: peewee.Node, right: peewee.Node) -> peewee.Expression:
    """Whether two values are equal or both null."""
    # SQLite has the standard's words only since 3.39.
    return peewee.Expression(left, "IS NOT DISTINCT FROM" if is_postgres() else "IS", right)
