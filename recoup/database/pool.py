"""One pool of connections a process, to SQLite or to Postgres, with each wait bounded."""

import select
import sqlite3
import time
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, Self
from urllib.parse import quote, unquote

import peewee
import psycopg
from playhouse.pool import PooledPostgresqlDatabase, PooledSqliteDatabase

from recoup.config import Config

# Each single wait (for a free connection, a new one, a lock, an answer) ends after this long.
WAIT_SECONDS = 3
# After a failed attempt to connect, nobody tries again for this long: attempts queue behind
# each other in the pool, and would each wait in full.
CONNECT_PAUSE_SECONDS = 1
# SQLite's lock is held for about as long.
SQLITE_POLL_SECONDS = 0.0005


def make_pool(config: Config) -> peewee.Database:
    """Make the pool; its connections are opened when they are needed."""
    scheme, _, rest = config.database_url.partition("://")
    pool = {"max_connections": config.database_pool_size, "timeout": WAIT_SECONDS}
    return _sqlite(rest[1:], pool) if scheme == "sqlite" else _postgres(rest, pool)


def _sqlite(path: str, pool: dict[str, int]) -> peewee.Database:
    # A file that isn't there is an error, and not a new database; see `make_sqlite_file`.
    address = f"file:{quote(str(Path(path).absolute()))}?mode=rw"
    pragmas = {
        # The waiting is done by `_SQLiteCursor`.
        "busy_timeout": 0,
        "foreign_keys": 1,
        "journal_mode": "wal",
        # A mark must outlive a power cut, or a schedule could be gone with nobody knowing.
        "synchronous": "full",
    }
    connection = {"uri": True, "check_same_thread": False, "factory": _SQLiteConnection}
    return _SQLitePool(address, pragmas=pragmas, **connection, **pool)


def make_sqlite_file(pool: peewee.Database) -> None:
    """Make the file of a SQLite database, and its folder, if they aren't there.

    Raises:
        OSError: it can't be made.
    """
    path = Path(unquote(pool.database.removeprefix("file:").partition("?")[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


class _SQLiteCursor(sqlite3.Cursor):
    """Asks for the file's lock often, until it has it or `WAIT_SECONDS` are over.

    SQLite itself lets whoever finds its lock taken sleep and try again, for longer each time: the
    lock lies idle, and some wait for very long.
    """

    def execute(self, sql: str, parameters: Any = ()) -> Self:
        end = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return super().execute(sql, parameters)
            except sqlite3.OperationalError as error:
                code = getattr(error, "sqlite_errorcode", 0)  # an extended one
                if code & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            time.sleep(SQLITE_POLL_SECONDS)


class _SQLiteConnection(sqlite3.Connection):
    def cursor(self, factory: Any = _SQLiteCursor) -> Any:
        return super().cursor(factory)


class _SQLitePool(PooledSqliteDatabase):
    """Has the threads of a process take turns to write, and not all ask for the lock at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._turn = Lock()

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        # Before the turn, or those who have connections would wait for the turn, and it for them.
        self.connection()  # type: ignore[no-untyped-call]
        if sql.lstrip().startswith("SELECT"):
            return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
        if not self._turn.acquire(timeout=WAIT_SECONDS):
            raise peewee.OperationalError("database is locked")
        try:
            return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
        finally:
            self._turn.release()


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


class _BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
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
