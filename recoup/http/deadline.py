"""Deadlines: a moment in time, and HTTP exchanges that end by it, down to the single byte.

`requests` bounds each single read of the socket, so a server that sends a byte a second is never
too late. Here the time of an exchange counts from connecting to the last byte.
"""

import http.client
import io
import socket
import ssl
import time
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

CONNECT_SECONDS = 3.0
# A firewall forgets connections that are idle for minutes. Such a connection is given up.
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
SOCKET_OPTIONS = [
    *urllib3.connection.HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(  # not every system has them
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in KEEPALIVE.items()
        if hasattr(socket, name)
    ),
]
SHORTEST_SECONDS = 0.001


class Deadline:
    """A moment on the monotonic clock, `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left; below zero once it has passed."""
        return self._end - time.monotonic()


def total_timeout(seconds: float) -> urllib3.Timeout:
    """Return a timeout of `seconds` for a whole exchange, with a share for connecting."""
    return urllib3.Timeout(total=seconds, connect=CONNECT_SECONDS)


class _BoundedReader(io.RawIOBase):
    """Reads a socket until its timeout, which covers the whole response, is used up."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        timeout = sock.gettimeout()
        self._deadline = Deadline(timeout) if timeout is not None else None
        self._begun = False

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the file that `HTTPResponse` reads."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._begun:
            self._shorten_timeout()
        self._begun = True
        try:
            return self._raw.readinto(buffer)
        except ssl.SSLError as error:
            # An SSL error would look like one of the handshake, before anything was sent.
            raise ConnectionAbortedError("the encryption broke off") from error

    def _shorten_timeout(self) -> None:
        if self._deadline is None:
            return
        left = self._deadline.left()
        if left <= 0:
            raise TimeoutError("the response took longer than its deadline")
        self._sock.settimeout(left)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_BoundedReader(sock), *args, **kwargs)  # type: ignore[arg-type]

    def _read_status(self) -> tuple[str, int, str]:
        """Read past interim answers, such as 103 (RFC 9110, section 15.2).

        Python's client would take an interim answer for the final one, and the final one for the
        answer to the next request on the connection.
        """
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 102 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)

    def _read_next_chunk_size(self) -> int:
        """Refuse a size below zero, by which Python's client would read on without a limit."""
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise ValueError("a chunk below zero")  # which it takes as for a size that is no number
        return size


class _HTTPConnection(urllib3.connection.HTTPConnection):
    response_class = _BoundedResponse

    def _new_conn(self) -> socket.socket:
        """Share the timeout among a host's addresses; urllib3 would give all of it to each."""
        deadline = self._connect_by = Deadline(self.timeout or CONNECT_SECONDS)
        try:
            addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise urllib3.exceptions.NameResolutionError(self.host, self, error) from error
        self.timeout = max(deadline.left(), SHORTEST_SECONDS) / len(addresses)
        sock = super()._new_conn()
        self.timeout = max(deadline.left(), SHORTEST_SECONDS)
        sock.settimeout(self.timeout)
        return sock


class _HTTPSConnection(_HTTPConnection, urllib3.connection.HTTPSConnection):
    def _tunnel(self) -> None:
        """Leave the TLS handshake what the proxy has left of the time for connecting."""
        super()._tunnel()
        self.sock.settimeout(max(self._connect_by.left(), SHORTEST_SECONDS))

    def connect(self) -> None:
        """Connect; a TLS handshake that hangs or is cut off counts as no connection."""
        try:
            super().connect()
        except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
            raise urllib3.exceptions.NewConnectionError(self, f"TLS: {error}") from error


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class DeadlineAdapter(HTTPAdapter):
    """Calls one server. It finds its connection pool once, uses no cookies, and passes on urllib3's
    response as it is.

    The methods that it overrides would take about a quarter of a call.
    """

    _pool: Any = None

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        self._pool = self._pool or super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Find the trusted certificates; if the file is gone, the call fails like others."""
        try:
            super().cert_verify(*args, **kwargs)  # type: ignore[no-untyped-call]
        except OSError as error:
            raise requests.exceptions.SSLError(urllib3.exceptions.SSLError(error)) from error

    def request_url(self, request: Any, proxies: Any) -> str:
        if proxies:
            return super().request_url(request, proxies)
        # `Client` has built the URL, so there is nothing to check.
        return "/" + str(request.url).split("/", 3)[3]

    def build_response(self, req: Any, resp: Any) -> Any:
        return resp

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, socket_options=SOCKET_OPTIONS, **kwargs)
        self._bound(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return self._bound(
            super().proxy_manager_for(*args, socket_options=SOCKET_OPTIONS, **kwargs)
        )

    def _bound(self, manager: urllib3.PoolManager) -> urllib3.PoolManager:
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager
