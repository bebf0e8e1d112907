"""A peewee query that is built once, and then run as its SQL with values put in.

Building a query with peewee costs about three times what running it does.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import peewee

from recoup.database.connection import Row, execute, fetch, is_postgres


class _Position(int):
    """A placeholder among the parameters of a query: which of a call's values belongs here."""


class Statement:
    """Decorates a function that builds a query, and runs the built query.

    The function is called with a placeholder for each value. That happens once for each number of
    values, on SQLite and on Postgres.
    """

    def __init__(self, build: Callable[..., peewee.BaseQuery]) -> None:
        self._build = build

    def fetch(self, *values: object) -> list[Row]:
        """Run it and return its rows; see `recoup.database.connection.fetch`."""
        sql, params = self.bind(*values)
        return fetch(sql, *params)

    def execute(self, *values: object) -> int:
        """Run it and return how many rows it touched; see `recoup.database.connection.execute`."""
        sql, params = self.bind(*values)
        return execute(sql, *params)

    def bind(self, *values: object) -> tuple[str, list[Any]]:
        """Return its SQL and the parameters, with `values` among them, unconverted."""
        sql, params = _build(self._build, len(values), is_postgres())
        return sql, [values[p] if type(p) is _Position else p for p in params]


@cache
def _build(
    build: Callable[..., peewee.BaseQuery], count: int, postgres: bool
) -> tuple[str, list[Any]]:
    return build(*(peewee.Value(_Position(n), converter=False) for n in range(count))).sql()
