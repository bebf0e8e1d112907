"""Postgres: psycopg's pool of connections under peewee's database, with each wait bounded."""

import logging
import select
import threading
from contextlib import suppress
from typing import Any, Self

import peewee
import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from recoup.counts import counts
from recoup.database import waits

MAX_LIFETIME_SECONDS = 1800
# Of the connections that were not needed for so long, one is closed, down to none.
MAX_IDLE_SECONDS = 60
# Where the server refuses a connection, it is asked again after so long.
CONNECT_PAUSE_SECONDS = 0.5
CONNECTION: dict[str, Any] = {
    "application_name": "recoup",
    "autocommit": True,
    # The least that psycopg knows.
    "connect_timeout": 2,
    # A pooler in transaction mode, such as Supabase's on port 6543, can't hold them.
    "prepare_threshold": None,
    # A firewall forgets a connection that is idle for minutes; one that it forgot is given up.
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 2000,  # milliseconds
}
# Read-only, and the ways to be shut down. Behind a pooler the connection may outlive the session.
SESSION_OVER = {"25006", "57P01", "57P02", "57P03"}

# It warns at each refused attempt; the request or sweep that fails for it says so.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


class NoConnection(peewee.PeeweeException):
    """No connection was to be had in time, so nothing was sent."""


def sqlstate(error: Exception) -> str | None:
    """Return what Postgres calls an error, be it psycopg's or peewee's; None: it said nothing."""
    code: str | None = getattr(getattr(error, "orig", error), "sqlstate", None)
    return code


class PostgresDatabase(peewee.PostgresqlDatabase):
    """peewee's database on psycopg's pool.

    peewee holds a lock while it connects. Who waited for a connection inside it would keep the
    others from giving theirs back, so it is taken from the pool before.
    """

    def __init__(self, url: str, size: int, most_waiting: int) -> None:
        super().__init__(url, prefer_psycopg3=True)
        self._size, self._most_waiting = size, most_waiting
        self._taken = threading.local()
        self._pool = self._make_pool()

    def _make_pool(self) -> ConnectionPool["_Connection"]:
        return ConnectionPool(
            self.database,
            connection_class=_Connection,
            kwargs=CONNECTION,
            min_size=0,
            max_size=self._size,
            open=False,
            check=self._check,
            timeout=waits.WAIT_SECONDS,
            # It keeps who has waited in vain, with all that the thread had, until it can connect.
            max_waiting=self._most_waiting,
            max_lifetime=MAX_LIFETIME_SECONDS,
            max_idle=MAX_IDLE_SECONDS,
            reconnect_timeout=CONNECT_PAUSE_SECONDS,
            reconnect_failed=_connect_again,
        )

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Take a connection from the pool for this thread.

        Raises:
            NoConnection: the reason is the server's, or that all are in use.
        """
        if self.is_closed():
            self._pool.open()  # with the first connection, and so after any fork
            try:
                with counts.hold("recoup_connections_waiting"):
                    self._taken.connection = self._pool.getconn()
            except psycopg.OperationalError as error:
                reason = _Connection.refused or "Max connections exceeded"
                raise NoConnection(str(reason)) from error
        return bool(super().connect(reuse_if_open))

    def _connect(self) -> "_Connection":
        connection: _Connection = self._taken.connection
        return connection

    def _close(self, conn: Any) -> None:
        self._pool.putconn(conn)

    def close_idle(self) -> None:
        """Have other connections in the place of all that there are, once they are given back."""
        self._pool.drain()

    def close_all(self) -> None:
        """Close the pool; no other thread may have a connection. The next use opens another."""
        self.close()
        self._pool.close()
        self._pool = self._make_pool()

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement; a SELECT once more if the connection was lost while it was idle."""
        was_idle = self.is_closed()
        try:
            return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
        except peewee.DatabaseError as error:
            if not self._is_over(error):
                raise
            self.close_idle()  # others of its time may be no better
            if not was_idle or not sql.lstrip().startswith("SELECT"):
                raise
            lost = error
        self.close()
        try:
            return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
        except NoConnection:
            raise lost from None

    def _is_over(self, error: peewee.DatabaseError) -> bool:
        """Whether this thread's session is of no more use; it is then closed."""
        connection: _Connection = self.connection()  # type: ignore[no-untyped-call]
        if sqlstate(error) in SESSION_OVER:
            connection.close()
        return connection.closed

    def rollback(self) -> None:
        """Roll back, but for a lost connection: to say so would hide why it was lost."""
        if not self.connection().closed:  # type: ignore[no-untyped-call]
            super().rollback()

    def _check(self, connection: "_Connection") -> None:
        """Refuse a connection of the pool that the server has hung up on, without asking it.

        An idle connection has nothing to read but the news of its end.
        """
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):
            connection.close()
            self.close_idle()
            raise psycopg.OperationalError("the server has hung up")


def _connect_again(pool: ConnectionPool["_Connection"]) -> None:
    """Try on while threads wait; the pool itself would only begin again for the next one."""
    if pool.get_stats()["requests_waiting"]:
        pool.check()


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """Waits for no statement longer than `WAIT_SECONDS`, or its own *patience*.

    Measured here and not by `statement_timeout`, as a pooler may refuse that or hand it on to
    other clients; and a server that is frozen can't measure it.
    """

    patience: float | None = None
    # Why the server could not be connected to, as long as that is so.
    refused: psycopg.OperationalError | None = None

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Self:
        """Connect, and keep the reason if that fails; the pool forgets it."""
        try:
            connection = super().connect(*args, **kwargs)
        except psycopg.OperationalError as error:
            cls.refused = error.with_traceback(None)
            raise
        cls.refused = None
        return connection

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for the server, but not for ever."""
        try:
            return super().wait(gen, interval, timeout or self.patience or waits.WAIT_SECONDS)
        except psycopg.OperationalError:
            if self.info.transaction_status is not TransactionStatus.ACTIVE:
                raise
        with suppress(psycopg.Error):
            self.cancel_safe(timeout=1)
        self.close()
        raise psycopg.OperationalError("the database did not answer in time")
