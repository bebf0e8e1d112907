"""SQLite: peewee's pool. Writers take turns, and each wait has an end."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, Self
from urllib.parse import quote, unquote

import peewee
from playhouse.pool import PooledSqliteDatabase

from recoup.database import waits

# SQLite's lock is held for about as long.
POLL_SECONDS = 0.0002
PRAGMAS = {
    # The waiting is done by `_Cursor`.
    "busy_timeout": 0,
    "foreign_keys": 1,
    "journal_mode": "wal",
    # A mark must outlive a power cut. Otherwise a schedule could be gone without a trace.
    "synchronous": "full",
}


class SQLiteDatabase(PooledSqliteDatabase):
    """Lets the threads of a process take turns to write, instead of competing for the lock."""

    def __init__(self, path: str, size: int) -> None:
        # A missing file is an error, and does not make a new database; see `make_file`.
        super().__init__(  # type: ignore[no-untyped-call]
            f"file:{quote(str(Path(path).absolute()))}?mode=rw",
            pragmas=PRAGMAS,
            uri=True,
            check_same_thread=False,
            factory=_Connection,
            max_connections=size,
            timeout=waits.WAIT_SECONDS,
        )
        self._turn = RLock()

    def make_file(self) -> None:
        """Make the file and its folder, if they are missing.

        Raises:
            OSError: it can't be made.
        """
        path = Path(unquote(self.database.removeprefix("file:").partition("?")[0]))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)  # it has e-mail addresses and prompts; SQLite makes its others alike

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement; if it writes, wait for this thread's turn."""
        if sql.lstrip().startswith("SELECT"):
            return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
        with self.turn():
            return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Take this thread's turn to write, for a statement or for those of a transaction."""
        # Before the turn: else threads with connections would wait for the turn, and it for them.
        self.connection()  # type: ignore[no-untyped-call]
        if not self._turn.acquire(timeout=waits.WAIT_SECONDS):
            raise peewee.OperationalError("database is locked")
        try:
            yield
        finally:
            self._turn.release()


class _Cursor(sqlite3.Cursor):
    """Asks for the file's lock often, until it has it or `WAIT_SECONDS` are over.

    SQLite itself sleeps between tries, longer each time. Then the lock lies idle, and some threads
    wait very long.
    """

    def execute(self, sql: str, parameters: Any = ()) -> Self:
        end = time.monotonic() + waits.WAIT_SECONDS
        while True:
            try:
                return super().execute(sql, parameters)
            except sqlite3.OperationalError as error:
                code = getattr(error, "sqlite_errorcode", 0)  # an extended one
                if code & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            time.sleep(POLL_SECONDS)


class _Connection(sqlite3.Connection):
    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)
