"""HTTP calls that end in time: a total deadline, down to the single byte.

`requests` bounds each read of the socket, so a server that sends a byte a second is never
late for it. Here the time of one exchange is counted from connecting to the last byte.
"""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import requests
import urllib3
from requests.adapters import HTTPAdapter

CONNECT_SECONDS = 3.0
SHORTEST_SECONDS = 0.001
# A page of a hundred schedules must fit.
BODY_LIMIT_BYTES = 1024 * 1024


class Deadline:
    """A moment on the monotonic clock, `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left; below zero once it has passed."""
        return self._end - time.monotonic()


class Answer(NamedTuple):
    """What a server said: status, headers, and at most `BODY_LIMIT_BYTES` of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Calls one outside service, each time within a deadline. Threads may share it.

    It stands on the adapters of requests and leaves its sessions out: nothing is merged from the
    environment (a `.netrc` entry would replace our credentials, and a proxy is a setting of
    ours), no redirect is looked at, no cookie kept; and they take as long as all the rest.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        pool_size: int = 10,
        proxy_url: str | None = None,
    ) -> None:
        # True, or the file of the certificates that are trusted instead of the usual ones.
        self.verify: bool | str = True
        self._adapter = _DeadlineAdapter(pool_connections=2, pool_maxsize=pool_size)
        self._proxies = {"http": proxy_url, "https": proxy_url} if proxy_url else {}
        request = requests.Request("GET", base_url.rstrip("/"), headers=headers, auth=auth)
        request.headers["Accept-Encoding"] = "identity"
        self._template = request.prepare()
        self._base_url = str(self._template.url).rstrip("/")

    def send(
        self,
        method: str,
        path: str,
        seconds: float,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> Answer:
        """Send one request and read its answer within `seconds` in all.

        `path` is put behind the base URL as it is.

        Raises:
            requests.RequestException: no whole answer came. A success whose body broke off is
                an answer all the same: what counts was said in its first line.
        """
        request = self._template.copy()
        request.method, request.url = method, self._base_url + path
        request.headers.update(headers or {})
        if json is not None:
            request.prepare_body(None, None, json)
        response = self._adapter.send(
            request,
            stream=True,
            timeout=urllib3.Timeout(total=seconds, connect=CONNECT_SECONDS),  # type: ignore[arg-type]
            verify=self.verify,
            proxies=self._proxies,
        )
        with response:
            return Answer(response.status_code, response.headers, _read(response))

    def close(self) -> None:
        """Close the connections that are kept."""
        self._adapter.close()


def _read(response: requests.Response) -> bytes:
    try:
        body: bytes = response.raw.read(BODY_LIMIT_BYTES)
        if len(body) < BODY_LIMIT_BYTES:
            response.raw.read(1)  # There is no more, or, if it broke off, an error.
    except (urllib3.exceptions.HTTPError, OSError) as error:
        if response.ok:
            return b""
        raise requests.ConnectionError(error) from error
    return body


class _BoundedReader(io.RawIOBase):
    """Reads a socket until its timeout, counted once for the whole response, is used up."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        timeout = sock.gettimeout()
        self._deadline = Deadline(timeout) if timeout is not None else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline:
            left = self._deadline.left()
            if left <= 0:
                raise TimeoutError("the response took longer than its deadline")
            self._sock.settimeout(left)
        try:
            return self._raw.readinto(buffer)
        except ssl.SSLError as error:
            # As an SSL error it would look like one of the handshake, before anything was sent.
            raise ConnectionAbortedError("the encryption broke off") from error

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_BoundedReader(sock))

    def _read_status(self) -> tuple[str, int, str]:
        """Read past interim answers, such as 103 (RFC 9110, section 15.2).

        Python's client would take one for the answer, and the answer for that to the next
        request on the connection.
        """
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 102 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)


class _HTTPConnection(urllib3.connection.HTTPConnection):
    response_class = _BoundedResponse

    def _new_conn(self) -> socket.socket:
        """Share the timeout among a host's addresses; urllib3 would give all of it to each."""
        deadline = Deadline(self.timeout or CONNECT_SECONDS)
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
    def connect(self) -> None:
        """Connect; a TLS handshake that hangs or is cut off is no connection either."""
        try:
            super().connect()
        except (TimeoutError, ConnectionError) as error:
            raise urllib3.exceptions.NewConnectionError(self, f"TLS: {error}") from error


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _DeadlineAdapter(HTTPAdapter):
    """Speaks to one server, so that its pool of connections is looked up once."""

    _pool: Any = None

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        self._pool = self._pool or super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._bound(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return self._bound(super().proxy_manager_for(*args, **kwargs))

    def _bound(self, manager: urllib3.PoolManager) -> urllib3.PoolManager:
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager
