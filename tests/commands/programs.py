"""What tests of commands share: a look at their output, and a real terminal."""

import json
import os
import pty
import select
import time
from pathlib import Path

from tests.forked import SECONDS, Forked

SECRETS = {"TRIGGER_SECRET_KEY": "tr_dev_standin", "PRIVY_PROJECT_SECRET": "secret-of-the-tests"}
NOBODY = "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"


def error_line(result):
    """Return the one line, beside its log, that a failed command in this process wrote."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    *logged, line = result.stderr.splitlines()
    assert all(json.loads(text) for text in logged)
    assert line.startswith("Error: ")
    return line


def on_a_terminal(command, answer, **environ):
    """Run a command on a terminal; return its exit code and all that it has shown."""
    return converse(command, (b"[y/N]", answer), **environ)


def converse(command, *steps, **environ):
    """Run a command on a terminal, and type each step's answer once its question is shown.

    Return the exit code and all that was shown.
    """
    terminal, its_end = pty.openpty()
    environ = {"PATH": os.defpath, "TERM": "xterm", **environ}
    process = Forked(command, Path.cwd(), environ, [os.ttyname(its_end)] * 3)
    waiting, shown, seen, end = list(steps), b"", 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        ended = process.poll() is not None
        if select.select([terminal], [], [], 0 if ended else 0.05)[0]:
            shown += os.read(terminal, 4096)
        elif ended:
            break
        if waiting and (at := shown.find(waiting[0][0], seen)) >= 0:
            seen = at + len(waiting[0][0])
            os.write(terminal, waiting.pop(0)[1])
    process.kill()
    os.close(terminal)
    os.close(its_end)
    return process.wait(), shown.decode()
