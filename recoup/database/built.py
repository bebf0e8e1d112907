"""A peewee query that is built once, and then run as its SQL with values put in.

Building a query with peewee costs about three times what running it does.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import peewee

from recoup.database.connection import Row, execute, execute_both, fetch, is_postgres


class _Position(int):
    """Which of a call's values belongs here; it stands among the parameters of a query."""


class Statement:
    """Decorates a function that builds a query, and runs what it has built.

    The function is called with a placeholder for each value of a call: once for each number of
    them, on SQLite and on Postgres.

    `then`: what follows on SQLite, in one transaction and with the first of the values, where the
    statement has touched a row.
    """

    def __init__(
        self, build: Callable[..., peewee.BaseQuery], then: "Statement | None" = None
    ) -> None:
        self._build, self._then = build, then

    def fetch(self, *values: object) -> list[Row]:
        """Run it and return its rows; see `recoup.database.connection.fetch`."""
        sql, params = self.bind(*values)
        return fetch(sql, *params)

    def execute(self, *values: object) -> int:
        """Run it and return how many rows it touched; see `recoup.database.connection.execute`."""
        sql, params = self.bind(*values)
        if self._then and not is_postgres():
            return execute_both((sql, params), self._then.bind(values[0]))
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
