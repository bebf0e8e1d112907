"""A connection to Postgres: when it may be opened, and how long a thread waits for it."""

import os
import time
from contextlib import suppress
from typing import Any, ClassVar, Self

import psycopg
from psycopg.pq import TransactionStatus

from recoup.database import waits

# The host may have set another for its database, in which psycopg can't read an instant. A pooler
# passes this on, at once if the server calls its own the same, which is with both words.
os.environ["PGDATESTYLE"] = "ISO, MDY"
# After a refused connection, the server is not asked for another one for so long.
REFUSED_SECONDS = 0.5
SETTINGS: dict[str, Any] = {
    "application_name": "recoup",
    "autocommit": True,
    "client_encoding": "UTF8",
    # The least that psycopg accepts. It is below `WAIT_SECONDS`, so that waiting threads hear why.
    "connect_timeout": 2,
    "prepare_threshold": None,  # until it is known to be safe; see `_configure` of the pool
    # A firewall forgets connections that are idle for minutes. Such a connection is given up.
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 2000,  # milliseconds
}
# A statement is prepared in a session once it has run there this often.
PREPARE_AFTER = 5
# Refused by the session, because it is read-only or has prepared another; nothing was done.
REFUSED = {"25006", "0A000", "26000"}
# Behind a pooler the connection may outlive its session.
SHUT_DOWN = {"57P01", "57P02", "57P03"}


def sqlstate(error: BaseException) -> str | None:
    """Return Postgres' code for an error of psycopg or peewee; None: it gave none."""
    code: str | None = getattr(getattr(error, "orig", error), "sqlstate", None)
    return code


class Session(psycopg.Connection[tuple[Any, ...]]):
    """Waits for no statement longer than `WAIT_SECONDS`, or its own *patience*.

    This is measured here and not with `statement_timeout`. A pooler may refuse that or pass it on
    to other clients, and a frozen server can't measure it.
    """

    patience: float | None = None
    # Why the server refused a connection, and until when it is not asked again.
    refusal = ""
    _refused_until = 0.0
    _opened: "ClassVar[list[Session]]" = []
    _to_yield = False

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Self:
        """Connect, unless the server has refused a connection a moment ago."""
        if time.monotonic() < cls._refused_until:
            raise psycopg.OperationalError(cls.refusal)
        try:
            session = super().connect(*args, **kwargs)
        except psycopg.OperationalError as error:
            cls.refusal, cls._to_yield = str(error), True
            cls._refused_until = time.monotonic() + REFUSED_SECONDS
            raise
        cls.refusal, cls._refused_until = "", 0.0
        cls._opened = [*cls._all_open(), session]
        return session

    @classmethod
    def _all_open(cls) -> "list[Session]":
        return [session for session in cls._opened if not session.closed]

    def is_the_servers_own(self) -> bool:
        """Whether this is a direct connection: a pooler reports a process id of its own."""
        [(pid,)] = self.execute("SELECT pg_backend_pid()").fetchall()
        return bool(pid == self.info.backend_pid)

    def yield_place(self) -> None:
        """Close this connection, once for each refusal, unless it is the last one.

        If the server grants too few, another process may have none. It can get this one.
        """
        if Session._to_yield and len(self._all_open()) > 1:
            Session._to_yield = False
            self.close()

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
