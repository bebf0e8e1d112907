"""A stand-in for Trigger.dev on a local socket: its schedules API, with faults on demand."""

import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Any, Self

from recoup.demo.faults import Exchange, Fault
from recoup.demo.messages import Request
from recoup.demo.schedules import SchedulesAPI

__all__ = ["Fault", "Request", "StandIn"]


@dataclass(frozen=True)
class _Rule:
    """Which requests meet a fault: those with the method and, unless None, the schedule."""

    fault: Fault
    method: str
    schedule_id: str | None

    def matches(self, request: Request) -> bool:
        return self.method == request.method and self.schedule_id in (None, request.schedule_id)


class StandIn(SchedulesAPI):
    """Trigger.dev on a free port of this machine, while it is started; also a context manager.

    It keeps its port: a stopped stand-in can be started again at the same address, with its
    schedules. *requests* has every request in the order of arrival. It may be used from any thread.
    """

    def __init__(self, secret_key: str = "tr_dev_standin", other_keys: Iterable[str] = ()) -> None:
        super().__init__(secret_key, other_keys)
        self.requests: list[Request] = []
        self._address = ("127.0.0.1", 0)
        self._queued: list[_Rule] = []
        self._standing: list[_Rule] = []

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        host, port = self._address
        return f"http://{host}:{port}"

    @property
    def deletions(self) -> Counter[str | None]:
        """The number of DELETE requests for each schedule id or deduplication key."""
        return Counter(r.schedule_id for r in list(self.requests) if r.method == "DELETE")

    def start(self) -> None:
        """Listen, and serve in its own thread; raise `OSError` if the port is taken."""
        self._server = _Server(self._address, self)
        self._address = (self._address[0], self._server.server_port)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening, end every wait and close every connection."""
        self._server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def fail(self, *faults: Fault, schedule_id: str | None = None, method: str = "DELETE") -> None:
        """Queue faults: each matching request meets the next one, until none is left."""
        with self._lock:
            self._queued += [_Rule(fault, method, schedule_id) for fault in faults]

    def always(
        self, fault: Fault, *, schedule_id: str | None = None, method: str = "DELETE"
    ) -> None:
        """Let every matching request meet the fault, after those that `fail` queued."""
        with self._lock:
            self._standing.append(_Rule(fault, method, schedule_id))

    def clear(self) -> None:
        """Remove all faults; those that are already playing go on."""
        with self._lock:
            self._queued, self._standing = [], []

    def receive(self, request: Request) -> Fault | None:
        """Record a request; return the fault that it meets."""
        with self._lock:
            rules = chain(self._queued, self._standing)
            rule = next((rule for rule in rules if rule.matches(request)), None)
            if rule in self._queued:
                self._queued.remove(rule)
            fault = rule.fault if rule else None
            self.requests.append(replace(request, fault=fault.kind if fault else None))
        return fault


class _Server(ThreadingHTTPServer):
    """Has a thread for each connection; a stop leaves no connection open."""

    request_queue_size = 512
    daemon_threads = True

    def __init__(self, address: tuple[str, int], standin: StandIn) -> None:
        self.standin = standin
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        # The inherited method sends a FIN first, which would hide a reset from the caller.
        self._connections.discard(request)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A caller that went away, or a stop, is part of a test and no error.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, then leaves the connection to the fault or to the real answer."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        standin = self.server.standin
        request = self._request()
        fault = standin.receive(request)
        exchange = Exchange(self.connection, lambda: standin.answer(request), self.server.stopping)
        if fault:
            fault.play(exchange)
        else:
            exchange.deliver(exchange.answer())
        self.close_connection |= not exchange.keep_alive

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _request(self) -> Request:
        # Not self.path: the base class has already taken double slashes out of it.
        path = self.requestline.split()[1]
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        return Request(self.command, path, headers, body)

    def log_message(self, *_: object) -> None:
        """Keep quiet: `StandIn.requests` is the log."""
