"""A server as in a pod: its master is PID 1, and its shared memory is small."""

import os
import shlex
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from tests.server import Executed, is_alive

SECONDS = 60
# Without the rights of root, a user namespace may give them.
_AS_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
_UNSHARE = ["unshare", *_AS_ROOT, "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c"]
_MOUNT = "mount -t tmpfs -o size=4m tmpfs /dev/shm"


class Pod(Executed):
    """A `Server` in namespaces of its own."""

    def command(self) -> list[str]:
        """Return the command, with the namespaces before it."""
        gunicorn = shlex.join(super().command())
        return [*_UNSHARE, f"{_MOUNT} && exec {gunicorn}"]

    def workers(self) -> list[int]:
        """Return the process ids of the workers as they are outside, the oldest first."""
        return [pid for master in super().workers() for pid in children(master) if is_alive(pid)]

    def fill_shared_memory(self) -> None:
        """Write to it until there is no room for more."""
        path = Path(f"/proc/{self.workers()[0]}/root/dev/shm/full")
        with suppress(OSError), path.open("wb", buffering=0) as full:
            while True:
                full.write(bytes(4096))


def children(pid: int) -> list[int]:
    """Return the process ids of its children; none if it has just ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in text.split()]
    return []


@cache
def why_not() -> str:
    """Return why there can be no pod on this machine; nothing if there can."""
    try:
        subprocess.run(
            [*_UNSHARE, _MOUNT], check=True, timeout=SECONDS, capture_output=True, text=True
        )
    except FileNotFoundError:
        return "no `unshare`; util-linux brings it"
    except subprocess.CalledProcessError as error:
        return f"no namespaces here: {error.stderr.strip()}"
    return ""


def skip_without_pods() -> None:
    """Skip a test where the machine allows no namespaces."""
    if reason := why_not():
        pytest.skip(reason)
