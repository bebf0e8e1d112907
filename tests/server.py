"""The service as it is run: a real gunicorn with its workers, on a port of its own.

    with Server(database_url, TRIGGER_API_URL=standin.url) as server:
        assert server.delete(task_id, key).status_code == 200

A worker or the whole server may be killed, and the server started again where it was.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import requests

from tests.canaries import assert_no_canary
from tests.forked import Forked
from tests.postgres import free_port
from tests.waiting import wait_for

REPOSITORY = Path(__file__).resolve().parent.parent
READY_SECONDS = 60
STOP_SECONDS = 60
# Longer than any answer may take; a request that comes to it has hung.
ANSWER_SECONDS = 60


class Server:
    """One gunicorn master and its workers, in a process group of their own.

    *settings* are environment names, put over those of the tests; nothing else of this process's
    environment is handed on. Several servers may share one database. `kill` and `stop` may be
    followed by `start`: the server comes back on the same port, its logs go on.
    """

    folder = REPOSITORY
    """Where it is started."""

    def __init__(self, database_url: str, **settings: str) -> None:
        self.port = free_port()
        self._environ = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": database_url,
            "TRIGGER_SECRET_KEY": "tr_dev_standin",
            "PRIVY_PROJECT_SECRET": "secret-of-the-tests",
            "WEB_CONCURRENCY": "2",
            **settings,
        }
        self._files = tempfile.TemporaryDirectory(prefix="recoup-server-")
        # What a server that was killed leaves behind goes with this folder.
        self._environ.setdefault("TMPDIR", self._files.name)
        self._out = Path(self._files.name, "out.log")
        self._err = Path(self._files.name, "err.log")
        self._out.touch()
        self._err.touch()
        self._process: Forked | subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the server, and wait until it answers and has all its workers."""
        self._process = self.run()
        self.wait_until_ready()

    def run(self) -> "Forked | subprocess.Popen[bytes]":
        """Start the process that is the master, in a group of its own."""
        streams = [os.devnull, str(self._out), str(self._err)]
        return Forked(["gunicorn", *self.arguments()], self.folder, self._environ, streams)

    def arguments(self) -> list[str]:
        """Return what gunicorn is started with."""
        return ["--bind", f"127.0.0.1:{self.port}"]

    def wait_until_ready(self) -> None:
        """Wait until it answers and has all its workers."""
        wait_for(self._is_ready, self.stderr, READY_SECONDS)

    def workers(self) -> list[int]:
        """Return the process ids of the workers that are alive, the oldest first."""
        master = self._master().pid
        with suppress(FileNotFoundError):
            children = Path(f"/proc/{master}/task/{master}/children").read_text()
            return [pid for pid in map(int, children.split()) if is_alive(pid)]
        return []

    def serving(self) -> list[int]:
        """Return those of the workers that have loaded the app, and answer."""
        return [pid for pid in self.workers() if _has_loaded_the_app(pid)]

    def kill_worker(self, pid: int) -> None:
        """End a worker by SIGKILL, if it has not ended by itself; it is gone on return."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(pid), seconds=STOP_SECONDS)

    def kill(self) -> None:
        """End the master and all its workers at once by SIGKILL; they are gone on return."""
        master = self._master()
        if master.poll() is not None:
            return
        workers = self.workers()
        os.killpg(master.pid, signal.SIGKILL)
        master.wait(STOP_SECONDS)
        for pid in workers:
            self.kill_worker(pid)

    def stop(self) -> None:
        """Let the server end as a deployment does, with what it has in hand answered."""
        self._master().terminate()
        self._master().wait(STOP_SECONDS)

    def reload(self) -> None:
        """Have it read its settings again, and put new workers in the place of the old."""
        self._master().send_signal(signal.SIGHUP)

    def close(self) -> None:
        """End the server for good and remove its logs."""
        if self._process:
            self.kill()
            assert_no_canary(self._out.read_text() + self.stderr(), "the server's log")
        self._files.cleanup()

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log: what all workers wrote so far to standard output, a JSON each line."""
        whole, _, _ = self._out.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def stderr(self) -> str:
        """Return what was written to standard error: gunicorn's own log, and tracebacks."""
        return self._err.read_text()

    def delete(self, task_id: str, key: str, request_id: str = "") -> requests.Response:
        """Send the delete request, on a connection of its own.

        Raises:
            requests.ConnectionError: no answer came.
        """
        headers = {"x-api-key": key, "Connection": "close"}
        if request_id:
            headers["X-Request-ID"] = request_id
        url = f"{self.url}/api/tasks"
        answer = requests.delete(url, json={"id": task_id}, headers=headers, timeout=ANSWER_SECONDS)
        assert_no_canary(f"{answer.headers} {answer.text}", "an answer")
        return answer

    def _master(self) -> "Forked | subprocess.Popen[bytes]":
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process

    def _is_ready(self) -> bool:
        if self._master().poll() is not None:
            raise RuntimeError(f"gunicorn ended at once:\n{self.stderr()}")
        with suppress(requests.RequestException):
            answer = requests.get(f"{self.url}/healthz", timeout=5)
            return answer.ok and len(self.serving()) == int(self._environ["WEB_CONCURRENCY"])
        return False


class Executed(Server):
    """A server that is started by a command of its own."""

    def run(self) -> "subprocess.Popen[bytes]":
        """Execute the command."""
        with self._out.open("ab") as out, self._err.open("ab") as err:
            return subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )

    def command(self) -> list[str]:
        """Return the command that is the server."""
        return [sys.executable, "-m", "gunicorn", *self.arguments()]


def _has_loaded_the_app(pid: int) -> bool:
    """Whether a worker serves: its sweeper is its second thread, and starts with the app."""
    with suppress(FileNotFoundError):
        return len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    return False


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended may wait for its parent as a zombie."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
