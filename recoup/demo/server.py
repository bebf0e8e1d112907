"""The demo's gunicorn, which ends with the demo, however that ends."""

import errno
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException

from click import ClickException

START_SECONDS = 30
# The shell becomes gunicorn. Its child reads from the demo, which never writes: what it reads is
# the end of the demo, a SIGKILL's too. `kill 0` is for all that the shell has started.
WATCHED = 'exec 3<&0; { read -r _ <&3; rm -rf "$0"; kill 0; } & exec "$@" 3<&- </dev/null'

Server = subprocess.Popen[bytes]


@contextmanager
def serve(gunicorn: str, port: int, folder: str, environ: Mapping[str, str]) -> Iterator[Server]:
    """Serve at the port until the block ends, or this process dies; then the folder goes too.

    Raises:
        ClickException: gunicorn doesn't serve.
    """
    command = [gunicorn, "--bind", f"127.0.0.1:{port}", "--log-level", "warning"]
    with subprocess.Popen(
        ["/bin/sh", "-c", WATCHED, folder, *command],
        env={**os.environ, **environ},
        stdin=subprocess.PIPE,
        # In a session of its own, as it would take a terminal's end for an order to reload.
        start_new_session=True,
    ) as server:
        try:
            _wait_for(server, port)
            yield server
        finally:
            server.terminate()
            server.wait()


def check_free(port: int) -> None:
    """Raise `ClickException`, which names a free port, unless this one is free."""
    try:
        _try(port)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        what = "is taken" if taken else f"can't be used ({error.strerror})"
        free = next(filter(_is_free, range(8000, 65536)))
        text = f"port {port} {what}; {free} is free: PORT={free} make run"
        raise ClickException(text) from None


def _is_free(port: int) -> bool:
    try:
        _try(port)
    except OSError:
        return False
    return True


def _try(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def _wait_for(server: Server, port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < end:
        if _is_up(port):
            return
        time.sleep(0.1)
    raise ClickException("gunicorn did not start; its log above says why")


def _is_up(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
