"""gunicorn's threaded worker, with an end to how long it waits for a client.

In the plain one a thread waits for a client that has sent half a request, or reads no answer, as
long as the client likes; and a client that doesn't hang up after its answer is waited for by the
main thread, so that nobody else gets in. A few such clients stop the service.
"""

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

# From the first byte of a request to its last; and for an answer to be taken.
CLIENT_SECONDS = 5
# A request usually follows its connection at once; a thread waits no longer for one that doesn't.
FIRST_BYTE_SECONDS = 0.05
# Of a worker whose threads all have work; long enough for an idle process to wake up.
HESITATION_SECONDS = 0.002
# Between two tries to accept a connection, where one has failed; and after this long without a
# failure, the next one is news.
PAUSE_SECONDS = 0.1
QUIET_SECONDS = 10
# Python has a thread give way to those that wait after 5 ms, in the middle of its work; each of
# ours waits for something itself long before this.
SWITCH_SECONDS = 0.1


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's threaded worker, but for clients that are too slow, and for who accepts.

    The kernel hands a connection to whichever worker asks first. Each hesitates here as it has
    work, so that one with free threads is first, and none fills up beside idle ones.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the heartbeat's file, in whatever temporary folder there is by now."""
        # The one that was found first may be gone, and the master would end for want of it.
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
        """Begin to serve, in threads that give way where they wait."""
        sys.setswitchinterval(SWITCH_SECONDS)
        super().init_process()

    def accept(self, listener: Any) -> None:
        """Take a connection that is waiting, if no worker with less to do has taken it."""
        busy = self.nr_conns - len(self.keepalived_conns) - len(self.pending_conns)
        time.sleep(HESITATION_SECONDS * max(0, min(1, busy / self.cfg.threads)))
        try:
            super().accept(listener)
        except OSError as error:
            self._pause_accepting(error)

    def _pause_accepting(self, error: OSError) -> None:
        """Leave connections in the socket's queue for a moment: mostly, no file can be opened.

        gunicorn's own worker ends here, and with it all that it has in hand.
        """
        now = time.monotonic()
        if now > self._accept_from + QUIET_SECONDS:
            self.log.warning("Accepting no connections for a moment: %s", error)
        self._accept_from = now + PAUSE_SECONDS
        self.set_accept_enabled(False)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept connections or none; the main loop asks for it again and again."""
        super().set_accept_enabled(enabled and time.monotonic() >= self._accept_from)

    def handle(self, conn: TConn) -> Any:
        """Read the next request of a connection and answer it; return what to do with it next."""
        if conn.parser is None:
            conn.parser = get_parser(self.cfg, conn.sock, conn.client)
            conn.parser.unreader = _BoundedUnreader(conn.sock)
        if not conn.initialized and not conn.wait_for_data(FIRST_BYTE_SECONDS):
            return _DEFER  # Now the main thread watches it, until something comes.
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
        """Answer and log as gunicorn does, but quote nothing: a broken header may hold a key."""
        if isinstance(exc, ParseException):
            exc.args = ()
            for name, value in vars(exc).items():
                if isinstance(value, str | bytes):
                    setattr(exc, name, "...")
        super().handle_error(req, client, addr, exc)


def _bound(sock: socket.socket, seconds: float) -> None:
    """Have the socket wait so long; to tell the kernel what it knows would cost a call to it."""
    if sock.gettimeout() != seconds:
        sock.settimeout(seconds)


def _hang_up(sock: socket.socket) -> None:
    """Wait here for the client to hang up too, and leave nothing to wait for in closing."""
    with suppress(OSError):
        close_graceful(sock.dup())
        sock.shutdown(socket.SHUT_RD)


class _BoundedUnreader(SocketUnreader):  # type: ignore[misc]
    """Reads a request's bytes; a client that is too slow counts as one that has hung up."""

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
