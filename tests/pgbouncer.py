"""A real PgBouncer before a test's Postgres, where the machine has one.

with PgBouncer(server, "transaction") as pooler:
    psycopg.connect(pooler.url("host"))
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import psycopg
import pytest

from tests.postgres import PostgresServer, free_port, unprivileged

READY_SECONDS = 30


def find_pgbouncer() -> str:
    """Return the program's path, or skip the test."""
    found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        required = os.environ.get("RECOUP_REQUIRE_PGBOUNCER") == "1"
        (pytest.fail if required else pytest.skip)("no PgBouncer: Debian's package is `pgbouncer`")
    return found


class PgBouncer:
    """A pooler on 127.0.0.1, with at most `size` sessions for each database.

    `mode`: `transaction` or `session`, which is how long a client keeps the session it was given.
    """

    def __init__(self, server: PostgresServer, mode: str, size: int) -> None:
        self._program = find_pgbouncer()
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="recoup-pgbouncer-", dir="/tmp"))
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": self._folder / "users",
            "pool_mode": mode,
            "default_pool_size": size,
            "max_client_conn": 200,
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        host = f"host=127.0.0.1 port={server.port}"
        text = "\n".join(["[databases]", f"* = {host}", "[pgbouncer]", *lines, ""])
        (self._folder / "pgbouncer.ini").write_text(text)
        (self._folder / "users").write_text('"postgres" ""\n')
        self._folder.chmod(0o755)

    def __enter__(self) -> Self:
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [self._program, self._folder / "pgbouncer.ini"], stderr=log, **unprivileged()
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def url(self, database: str) -> str:
        """The URL of a database of the server, through the pooler."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def close(self) -> None:
        """Stop the pooler and remove its files."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while True:
            try:
                return psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > end:
                    said = (self._folder / "log").read_text()
                    raise RuntimeError(f"PgBouncer failed:\n{said}") from None
            time.sleep(0.01)
