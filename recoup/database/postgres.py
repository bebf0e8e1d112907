"""Postgres: psycopg's pool of connections under peewee's database, with each wait bounded."""

import logging
import select
import threading
from typing import Any

import peewee
import psycopg
from psycopg_pool import ConnectionPool

from recoup.counts import counts
from recoup.database import waits
from recoup.database.session import (
    PREPARE_AFTER,
    REFUSED,
    REFUSED_SECONDS,
    SETTINGS,
    SHUT_DOWN,
    Session,
    sqlstate,
)

MAX_LIFETIME_SECONDS = 1800
# Where one connection was not needed for so long, one is closed, but for the last. Soon, as other
# processes may have too few.
MAX_IDLE_SECONDS = 1

# It warns at each refused attempt; the request or sweep that fails for it says so.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


class NoConnection(peewee.PeeweeException):
    """No connection was to be had in time, so nothing was sent."""


class PostgresDatabase(peewee.PostgresqlDatabase):
    """peewee's database on psycopg's pool.

    peewee holds a lock while it connects. Who waited for a connection inside it would keep the
    others from giving theirs back, so it is taken from the pool before.
    """

    def __init__(self, url: str, size: int, *, most_waiting: int, prepare: str) -> None:
        super().__init__(url, prefer_psycopg3=True)
        self._size, self._most_waiting, self._prepare = size, most_waiting, prepare
        self._taken = threading.local()
        self._pool = self._make_pool()

    def _make_pool(self) -> ConnectionPool[Session]:
        return ConnectionPool(
            self.database,
            connection_class=Session,
            kwargs=SETTINGS,
            # One at first, or two would be opened for who comes first.
            min_size=1,
            max_size=1,
            open=False,
            configure=self._configure,
            check=self._check,
            timeout=waits.WAIT_SECONDS,
            # It keeps who has waited in vain, with all that the thread had, until it can connect.
            max_waiting=self._most_waiting,
            max_lifetime=MAX_LIFETIME_SECONDS,
            max_idle=MAX_IDLE_SECONDS,
            reconnect_timeout=REFUSED_SECONDS,
            reconnect_failed=_grow,
        )

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Take a connection from the pool for this thread.

        Raises:
            NoConnection: why the server gives none, or that all are in use.
        """
        if self.is_closed():
            self._pool.open()  # with the first connection, and so after any fork
            try:
                with counts.hold("recoup_connections_waiting"):
                    self._taken.session = self._pool.getconn()
            except psycopg.OperationalError as error:
                raise NoConnection(Session.refusal or "Max connections exceeded") from error
            if self._pool.max_size < self._size:
                self._pool.resize(1, self._size)
                _grow(self._pool)
        return bool(super().connect(reuse_if_open))

    def _connect(self) -> Any:
        return self._taken.session

    def _close(self, conn: Session) -> None:
        conn.yield_place()
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
        """Run a statement; once more, in another session, where that is safe.

        It is where the session refused it, and for a SELECT whose session was lost while idle.
        """
        was_idle = self.is_closed()
        try:
            return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
        except peewee.DatabaseError as error:
            if not self._is_over(error):
                raise
            self.close_idle()  # others of its time may be no better
            may_repeat = was_idle and sql.lstrip().startswith("SELECT")
            if self.in_transaction() or not (may_repeat or sqlstate(error) in REFUSED):
                raise
            first = error
        self.close()
        try:
            return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
        except NoConnection:
            raise first from None

    def _is_over(self, error: peewee.DatabaseError) -> bool:
        """Whether this thread's session is of no more use; it is then closed."""
        session: Session = self.connection()  # type: ignore[no-untyped-call]
        if sqlstate(error) in REFUSED | SHUT_DOWN:
            session.close()
        return session.closed

    def rollback(self) -> None:
        """Roll back, but for a lost connection: to say so would hide why it was lost."""
        if not self.connection().closed:  # type: ignore[no-untyped-call]
            super().rollback()

    def _configure(self, session: Session) -> None:
        """Let a new session prepare statements where it keeps them.

        A pooler in transaction mode, such as Supabase's on port 6543, runs one client's statement
        in the session in which another has prepared one of the same name.
        """
        if self._prepare == "on" or (self._prepare == "auto" and session.is_the_servers_own()):
            session.prepare_threshold = PREPARE_AFTER

    def _check(self, session: Session) -> None:
        """Refuse a connection of the pool that the server has hung up on, without asking it.

        An idle connection has nothing to read but the news of its end.
        """
        poll = select.poll()
        poll.register(session.fileno(), select.POLLIN)
        if poll.poll(0):
            session.close()
            self.close_idle()
            raise psycopg.OperationalError("the server has hung up")


def _grow(pool: ConnectionPool[Session]) -> None:
    """Open a connection for threads that wait; the pool itself does it when one begins to."""
    if pool.get_stats()["requests_waiting"]:
        pool.check()
