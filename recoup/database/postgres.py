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
# If a connection was not needed for so long, one is closed; the last stays. This is short, because
# other processes may have too few.
MAX_IDLE_SECONDS = 1

# It warns at each refused attempt. The request or sweep that fails says so anyway.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


class NoConnection(peewee.PeeweeException):
    """No connection was available in time, so nothing was sent."""


class PostgresDatabase(peewee.PostgresqlDatabase):
    """peewee's database on psycopg's pool.

    peewee holds a lock while it connects. A thread that waited for a connection inside this lock
    would keep others from giving theirs back. So the connection is taken from the pool before.
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
            # One at first; otherwise two would be opened for the first thread.
            min_size=1,
            max_size=1,
            open=False,
            configure=self._configure,
            check=self._check,
            timeout=waits.WAIT_SECONDS,
            # A pool keeps each thread that waited in vain, with its locals, until it can connect.
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
            self._pool.open()  # with the first connection, so after any fork
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
        """Replace all connections, each once it is given back."""
        self._pool.drain()

    def close_all(self) -> None:
        """Close the pool; no other thread may have a connection. The next use opens a new pool."""
        self.close()
        self._pool.close()
        self._pool = self._make_pool()

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement; if that fails and is safe, once more in another session.

        It is safe if the session refused it, and for a SELECT whose session was lost while idle.
        """
        was_idle = self.is_closed()
        try:
            return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
        except peewee.DatabaseError as error:
            if not self._is_over(error):
                raise
            self.close_idle()  # others of the same age may be no better
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
        """Whether this thread's session can't be used any more; it is then closed."""
        session: Session = self.connection()  # type: ignore[no-untyped-call]
        if sqlstate(error) in REFUSED | SHUT_DOWN:
            session.close()
        return session.closed

    def rollback(self) -> None:
        """Roll back, except on a lost connection: that error would hide why it was lost."""
        if not self.connection().closed:  # type: ignore[no-untyped-call]
            super().rollback()

    def _configure(self, session: Session) -> None:
        """Let a new session prepare statements, if it keeps them.

        A pooler in transaction mode, such as Supabase's on port 6543, may run a client's statement
        in a session where another client has prepared one with the same name.
        """
        if self._prepare == "on" or (self._prepare == "auto" and session.is_the_servers_own()):
            session.prepare_threshold = PREPARE_AFTER

    def _check(self, session: Session) -> None:
        """Refuse a connection of the pool that the server has hung up on, without asking it.

        An idle connection has something to read only if it has ended.
        """
        poll = select.poll()
        poll.register(session.fileno(), select.POLLIN)
        if poll.poll(0):
            session.close()
            self.close_idle()
            raise psycopg.OperationalError("the server has hung up")


def _grow(pool: ConnectionPool[Session]) -> None:
    """Open a connection for threads that wait; the pool does so only when a wait begins."""
    if pool.get_stats()["requests_waiting"]:
        pool.check()
