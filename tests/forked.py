"""gunicorn in a process of its own, forked from one that has loaded the libraries.

Loading them is most of what a start costs, and the tests start a hundred. `recoup` is loaded by
each process anew, as it has state of its own from then on.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "apispec",
        "dotenv",
        "flask",
        "gunicorn.app.wsgiapp",
        "gunicorn.workers.gthread",
        "jwt",
        "marshmallow",
        "peewee",
        "playhouse.pool",
        "prometheus_client",
        "psycopg_pool",
        "requests",
    ]
)


class Forked:
    """`python -m gunicorn`, with what the tests use of a `subprocess.Popen`."""

    def __init__(self, arguments: list[str], cwd: Path, env: dict[str, str], out: Path, err: Path):
        # A daemon, as one that a failed test has left behind must not outlive the tests.
        self._process = _context.Process(
            target=_become, args=(arguments, cwd, env, out, err), daemon=True
        )
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Wait for its end and return the exit code."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(f"gunicorn {self.pid}", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


def _become(arguments: list[str], cwd: Path, env: dict[str, str], out: Path, err: Path) -> None:
    os.setpgid(0, 0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    sys.argv = ["gunicorn", *arguments]
    runpy.run_module("gunicorn", run_name="__main__", alter_sys=True)
