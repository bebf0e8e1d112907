"""gunicorn's threaded worker, with a limit to how long it waits for a client.

Without this limit a thread waits for ever for a client that sends only half a request, or doesn't
read its answer. The main thread waits for a client that doesn't hang up after its answer, and
accepts nobody else meanwhile. A few such clients stop the service.
"""

import json
import socket
import sys
import tempfile
import time
from contextlib import suppress
from typing import Any

from gunicorn.http import Request, get_parser
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.unreader import SocketUnreader
from gunicorn.util import close_graceful
from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker

from recoup.web.headers import CORS_HEADERS

# For a request, from its first byte to its last; and for the client to read the answer.
CLIENT_SECONDS = 5
# A request usually follows its connection at once. A thread doesn't wait longer for one.
FIRST_BYTE_SECONDS = 0.05
# For a worker whose threads are all busy; long enough for an idle process to wake up.
HESITATION_SECONDS = 0.002
# The pause after a failure to accept a connection. After so many quiet seconds, a failure is logged
# again.
PAUSE_SECONDS = 0.1
QUIET_SECONDS = 10
# By default Python interrupts a thread for others after 5 ms, in the middle of its work. Our
# threads wait for something themselves long before this.
SWITCH_SECONDS = 0.1


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's threaded worker. It drops slow clients, and leaves connections to idle workers.

    The kernel gives a connection to the worker that asks first. So each worker hesitates here, the
    longer the busier it is. A worker with free threads is then first.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the heartbeat's file; if the temporary folder is gone, in another one."""
        # A failure here would end the master. Python finds no folder on a full disk, but can still
        # make an empty file in one that it has found before.
        try:
            super().__init__(*args, **kwargs)
        except OSError:
            tempfile.tempdir = None
            super().__init__(*args, **kwargs)
        self._accept_from = float("-inf")

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse what this worker can't do."""
        super().check_config(cfg, log)
        if cfg.is_ssl:
            raise RuntimeError("TLS is for the proxy in front: unset certfile and keyfile")

    def init_process(self) -> None:
        """Begin to serve, in threads that switch where they wait."""
        sys.setswitchinterval(SWITCH_SECONDS)
        super().init_process()

    def accept(self, listener: Any) -> None:
        """Accept a waiting connection, unless a less busy worker is faster."""
        busy = self.nr_conns - len(self.keepalived_conns) - len(self.pending_conns)
        time.sleep(HESITATION_SECONDS * max(0, min(1, busy / self.cfg.threads)))
        try:
            super().accept(listener)
        except OSError as error:
            self._pause_accepting(error)

    def _pause_accepting(self, error: OSError) -> None:
        """Leave connections in the socket's queue for a moment, usually because files ran out.

        gunicorn's own worker would end here, with all its requests.
        """
        now = time.monotonic()
        if now > self._accept_from + QUIET_SECONDS:
            self.log.warning("Accepting no connections for a moment: %s", error)
        self._accept_from = now + PAUSE_SECONDS
        self.set_accept_enabled(False)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept connections or none; the main loop calls this again and again."""
        super().set_accept_enabled(enabled and time.monotonic() >= self._accept_from)

    def handle(self, conn: TConn) -> Any:
        """Read and answer a connection's next request; return what to do with it next."""
        if conn.parser is None:
            conn.parser = get_parser(self.cfg, conn.sock, conn.client)
            conn.parser.unreader = _BoundedUnreader(conn.sock)
        if not conn.initialized and not conn.wait_for_data(FIRST_BYTE_SECONDS):
            return _DEFER  # The main thread now watches it until something comes.
        conn.parser.unreader.deadline = None
        outcome = super().handle(conn)
        if not outcome:
            _hang_up(conn.sock)
        return outcome

    def handle_request(self, req: Request, conn: TConn) -> Any:
        """Answer a request; return whether the connection may be used again."""
        _bound(conn.sock, CLIENT_SECONDS)
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            return False

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Log as gunicorn does and answer in our shape, without quotes.

        A broken header may contain a key.
        """
        if isinstance(exc, ParseException):
            exc.args = ()
            for name, value in vars(exc).items():
                if isinstance(value, str | bytes):
                    setattr(exc, name, "...")
        super().handle_error(req, _Refused(client), addr, exc)


class _Refused:
    """The socket of a client whose request is no HTTP, for which gunicorn has a page of HTML."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, page: bytes) -> None:
        """Send the page's status and reason as the app would."""
        status_line = page.partition(b"\r\n")[0].decode()
        body = json.dumps({"status": "error", "error": status_line.split(" ", 2)[2]})
        headers = (
            ("Connection", "close"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            *CORS_HEADERS,
        )
        lines = [status_line, *(f"{name}: {value}" for name, value in headers), "", body]
        self._sock.sendall("\r\n".join(lines).encode())


def _bound(sock: socket.socket, seconds: float) -> None:
    """Set the socket's timeout; leave out the system call if it is set already."""
    if sock.gettimeout() != seconds:
        sock.settimeout(seconds)


def _hang_up(sock: socket.socket) -> None:
    """Wait here until the client hangs up too, so that closing needn't wait."""
    with suppress(OSError):
        close_graceful(sock.dup())
        sock.shutdown(socket.SHUT_RD)


class _BoundedUnreader(SocketUnreader):  # type: ignore[misc]
    """Reads a request's bytes; a client that is too slow counts as gone."""

    deadline: float | None = None

    def chunk(self, size_hint: int | None = None) -> Any:
        now = time.monotonic()
        left = self.deadline - now if self.deadline else CLIENT_SECONDS
        if left <= 0:
            raise NoMoreData
        self.deadline = now + left
        _bound(self.sock, left)
        try:
            return super().chunk(size_hint)
        except TimeoutError:
            raise NoMoreData from None
        finally:
            _bound(self.sock, CLIENT_SECONDS)
