"""Python programs in processes of their own, forked from one that has loaded the libraries.

    code, stdout, stderr = run("recoup", "keys", "list", cwd=tmp_path, **environ)

Loading the libraries is most of what a start costs, and the tests start hundreds. `recoup` itself
is loaded by each process anew, as it has state of its own from then on.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

BIN = Path(sys.executable).parent
SECONDS = 60

_context = multiprocessing.get_context("forkserver")
# Without `gunicorn.app`, which takes the folder in which it is loaded for the one to serve.
_context.set_forkserver_preload(
    [
        "apispec",
        "dotenv",
        "flask.cli",
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
    """A program, with what the tests use of a `subprocess.Popen`.

    *command* is an installed program's name, or a script's path, or `python -m` and a module, and
    the arguments. *streams* are the paths of its standard input, output and error; a terminal that
    is named there becomes its own.
    """

    def __init__(
        self, command: Sequence[str], cwd: Path, env: Mapping[str, str], streams: Sequence[str]
    ) -> None:
        # A daemon, as one that a failed test has left behind must not outlive the tests.
        self._process = _context.Process(
            target=_become, args=(list(command), cwd, dict(env), list(streams)), daemon=True
        )
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float = SECONDS) -> int:
        """Wait for its end and return the exit code."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(f"program {self.pid}", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def run(*command: str, cwd: Path, **environ: str) -> tuple[int, str, str]:
    """Run a program to its end; return its exit code, and what it wrote to each output.

    It has no environment but *environ*.
    """
    with TemporaryDirectory(prefix="recoup-run-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        streams = [os.devnull, str(out), str(err)]
        process = Forked(command, cwd, {"PATH": os.defpath, **environ}, streams)
        try:
            code = process.wait()
        finally:
            process.kill()
        return code, out.read_text(), err.read_text()


def _become(command: list[str], cwd: Path, env: dict[str, str], streams: list[str]) -> None:
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate(streams):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", 1))
    if command[:2] == ["python", "-m"]:
        sys.argv = command[2:]
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [str(BIN / command[0]), *command[1:]]
        runpy.run_path(sys.argv[0], run_name="__main__")
