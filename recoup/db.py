"""The database: one pool a process, bounded waits, and one way to run a statement.

A thread takes a connection from the pool with its first statement and gives it back with
`release()`: before every network call, and at the end of each request, command or sweep.
Each statement commits by itself, so nothing is held open while somebody else is waited for.
"""

import select
import sqlite3
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import peewee
import psycopg
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase, PooledSqliteDatabase

from recoup.config import Config

# Each single wait (for a free connection, a new one, a lock, an answer) ends after this long.
WAIT_SECONDS = 3
# After a failed attempt to connect, nobody tries again for this long: attempts queue behind
# each other in the pool, and would each wait in full.
CONNECT_PAUSE_SECONDS = 1
# SQLite's lock is held for about as long.
SQLITE_POLL_SECONDS = 0.0005

database = peewee.DatabaseProxy()

Row = tuple[Any, ...]
T = TypeVar("T")


# All that peewee and the drivers beneath it raise.
FAILURES = (peewee.PeeweeException, MaxConnectionsExceeded, psycopg.Error, sqlite3.Error)


class DatabaseFailed(Exception):
    """The database did not do what it was asked to; the cause is chained."""


class ConstraintFailed(DatabaseFailed):
    """A foreign key or a unique constraint stood against a statement."""


class AnswerLost(DatabaseFailed):
    """The statement was sent, and whether it was or will be carried out is not known."""


def connect(config: Config) -> peewee.Database:
    """Make this process's database; its connections are opened when they are needed."""
    scheme, _, rest = config.database_url.partition("://")
    pool = {"max_connections": config.database_pool_size, "timeout": WAIT_SECONDS}
    made = _sqlite(rest[1:], pool) if scheme == "sqlite" else _postgres(rest, pool)
    database.initialize(made)
    return made


def fetch(sql: str, *params: object) -> list[Row]:
    """Run one statement and return its rows; see `execute`."""
    return _run(sql, params, lambda cursor: cursor.fetchall())


def execute(sql: str, *params: object) -> int:
    """Run one statement and commit it; return how many rows it touched.

    `sql` has `?` for a parameter, `{now}` for the database's clock, `{now_plus}` for that clock
    and a parameter in seconds, and `{instant}(x)` for an instant that another program wrote.

    Raises:
        ConstraintFailed: a foreign key or unique constraint is against it.
        AnswerLost: it may have been carried out, or be yet.
        DatabaseFailed: anything else; it was not carried out.
    """
    return _run(sql, params, lambda cursor: int(cursor.rowcount))


def _run(sql: str, params: tuple[object, ...], outcome: Callable[[Any], T]) -> T:
    try:
        return outcome(database.execute_sql(_translate(sql, is_postgres()), params))
    except peewee.IntegrityError as error:
        raise ConstraintFailed(str(error)) from error
    except FAILURES as error:
        kind = AnswerLost if _answer_is_lost(error) else DatabaseFailed
        release()  # it may be lost, and the thread's next statement needs one that isn't
        raise kind(str(error)) from error


def _answer_is_lost(error: Exception) -> bool:
    """Whether a statement was sent and the server has not said what became of it.

    What Postgres says has an SQLSTATE, and so has a pooler's word that it lost the server;
    SQLite is no server.
    """
    said = getattr(getattr(error, "orig", error), "sqlstate", None)
    unknown = said is None or said.startswith("08") or said == "40003"
    return is_postgres() and not database.is_closed() and unknown


def release() -> None:
    """Give this thread's connection, if it has one, back to the pool."""
    if not database.is_closed():
        database.close()


def is_postgres() -> bool:
    return isinstance(database.obj, PooledPostgresqlDatabase)


@lru_cache
def _translate(sql: str, postgres: bool) -> str:
    for token, text in (_POSTGRES if postgres else _SQLITE).items():
        sql = sql.replace(token, text)
    return sql


_POSTGRES = {
    "?": "%s",
    "{now}": "clock_timestamp()",
    "{now_plus}": "clock_timestamp() + make_interval(secs => %s)",
    "{instant}": "",
}
_SQLITE = {
    "{now}": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
    "{now_plus}": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ? || ' seconds')",
    # Text from other programs may carry an offset, and then doesn't compare as it reads.
    "{instant}": "julianday",
}


def make_sqlite_file() -> None:
    """Make the file of a SQLite database, and its folder, if they aren't there.

    Raises:
        OSError: it can't be made.
    """
    path = Path(unquote(database.database.removeprefix("file:").partition("?")[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _sqlite(path: str, pool: dict[str, int]) -> peewee.Database:
    # A file that isn't there is an error, and not a new database; see `make_sqlite_file`.
    address = f"file:{quote(str(Path(path).absolute()))}?mode=rw"
    pragmas = [
        ("busy_timeout", WAIT_SECONDS * 1000),
        ("foreign_keys", 1),
        ("journal_mode", "wal"),
        # A mark must outlive a power cut, or a schedule could be gone with nobody knowing.
        ("synchronous", "full"),
        # From here on `_SQLitePool` does the waiting.
        ("busy_timeout", 0),
    ]
    return _SQLitePool(address, pragmas=pragmas, uri=True, check_same_thread=False, **pool)


class _SQLitePool(PooledSqliteDatabase):
    """Has the threads of a process take turns to write, and processes ask for the lock often.

    SQLite itself lets whoever finds its lock taken sleep and try again, for longer each time: the
    lock lies idle, and some wait for very long.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._turn = Lock()

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        # Before the turn, or those who have connections would wait for the turn, and it for them.
        self.connection()  # type: ignore[no-untyped-call]
        if sql.lstrip().startswith("SELECT"):
            return self._persist(sql, params)
        if not self._turn.acquire(timeout=WAIT_SECONDS):
            raise peewee.OperationalError("database is locked")
        try:
            return self._persist(sql, params)
        finally:
            self._turn.release()

    def _persist(self, sql: str, params: Any) -> Any:
        """Run a statement as soon as no other process stands against it."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
            except peewee.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > end:
                    raise
            time.sleep(SQLITE_POLL_SECONDS)


def _is_busy(error: peewee.OperationalError) -> bool:
    extended_code = getattr(getattr(error, "orig", error), "sqlite_errorcode", 0)
    return bool(extended_code & 0xFF == sqlite3.SQLITE_BUSY)


def _postgres(address: str, pool: dict[str, int]) -> peewee.Database:
    return _PostgresPool(
        f"postgresql://{address}",
        prefer_psycopg3=True,
        application_name="recoup",
        connect_timeout=WAIT_SECONDS,
        # A pooler in transaction mode, such as Supabase's on port 6543, can't hold them.
        prepare_threshold=None,
        **pool,
    )


class _BoundedConnection(psycopg.Connection[Row]):
    """Waits for no statement longer than `WAIT_SECONDS`, or its own *patience*.

    Measured here and not by `statement_timeout`, as a pooler may refuse that or hand it on to
    other clients; and a server that is frozen can't measure it.
    """

    patience: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, timeout or self.patience or WAIT_SECONDS)
        except psycopg.errors._WaitTimeout:
            self._try_cancel(timeout=1)
            self.close()
            raise psycopg.OperationalError("the database did not answer in time") from None


class _BoundedAdapter(peewee.Psycopg3Adapter):
    def connect(self, db: peewee.Database, **params: Any) -> _BoundedConnection:
        return _BoundedConnection.connect(db.database, **params)


class _PostgresPool(PooledPostgresqlDatabase):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        # What peewee guards with it is each thread's own, and threads under load queue for it.
        self._lock = nullcontext()

    psycopg3_adapter = _BoundedAdapter
    _connect_failed_at = float("-inf")

    def _connect(self) -> Any:
        with self._pool_lock:
            if not self._connections and self._pausing():
                raise peewee.OperationalError("the database could not be reached a moment ago")
            try:
                return super()._connect()
            except psycopg.OperationalError:
                self._connect_failed_at = time.monotonic()
                raise

    def rollback(self) -> None:
        # A lost connection has nothing to roll back, and saying so would hide why it was lost.
        if not self.connection().closed:  # type: ignore[no-untyped-call]
            super().rollback()

    def _pausing(self) -> bool:
        return time.monotonic() - self._connect_failed_at < CONNECT_PAUSE_SECONDS

    def _is_closed(self, conn: Any) -> bool:
        """Whether the server hung up, seen without the round trip that peewee would spend.

        An idle connection has nothing to read but the news of its end.
        """
        if not conn.closed:
            poll = select.poll()
            poll.register(conn.fileno(), select.POLLIN)
            if poll.poll(0):
                conn.close()  # peewee only forgets it
        return bool(conn.closed)
