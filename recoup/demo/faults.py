"""Faults: what may go wrong between a request and its answer, each as a short script."""

import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from recoup.demo.answers import DATABASE_ERROR, SERVER_ERROR, page, too_many
from recoup.demo.messages import JSON, Answer

# On, with 0 seconds: closing discards unsent data and resets the connection.
LINGER_RESET = struct.pack("ii", 1, 0)


@dataclass
class Exchange:
    """A request that waits for its answer, and what may be done with it.

    *perform* does what the request asks and returns the real answer; *stopping* is set when the
    stand-in stops; *keep_alive* is False once the connection is to be closed.
    """

    connection: socket.socket
    perform: Callable[[], Answer]
    stopping: threading.Event
    keep_alive: bool = True

    def answer(self, act: bool = True) -> Answer:
        """Return the real answer, or a 500 if nothing was done: a success would be a lie."""
        return self.perform() if act else SERVER_ERROR

    def wait(self, seconds: float) -> None:
        """Wait; raise `ConnectionAbortedError` as soon as the stand-in stops."""
        if self.stopping.wait(seconds):
            raise ConnectionAbortedError("the stand-in stopped")

    def send(self, data: bytes, seconds_per_byte: float = 0.0) -> None:
        """Send the bytes at once, or one by one with a wait after each."""
        if not seconds_per_byte:
            self.connection.sendall(data)
            return
        for byte in data:
            self.connection.sendall(bytes([byte]))
            self.wait(seconds_per_byte)

    def deliver(self, answer: Answer) -> None:
        """Send the whole answer."""
        self.send(answer.head() + answer.content())
        if answer.headers.get("connection") == "close":
            self.close()

    def close(self) -> None:
        """Let the connection end with a FIN."""
        self.keep_alive = False

    def reset(self) -> None:
        """Let the connection end with a RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        self.close()


@dataclass(frozen=True)
class Fault:
    """A fault: its name, and the script that plays it; made by the methods below.

    With *act* True, the request takes effect before the fault shows.
    """

    kind: str
    play: Callable[[Exchange], None] = field(repr=False)

    @staticmethod
    def status(
        code: int, body: bytes = SERVER_ERROR.body, headers: Mapping[str, str] | None = None
    ) -> "Fault":
        """Answer with this status without acting."""
        answer = Answer(code, body, {"content-type": JSON, **(headers or {})})
        return Fault(f"status {code}", lambda exchange: exchange.deliver(answer))

    @staticmethod
    def database_error(act: bool = False) -> "Fault":
        """Answer 422 as the real server does when its database fails, before or after acting."""

        def play(exchange: Exchange) -> None:
            exchange.answer(act)
            exchange.deliver(DATABASE_ERROR)

        return Fault("database_error", play)

    @staticmethod
    def other_words(body: bytes = b'{"ok": true}') -> "Fault":
        """Answer 200 with JSON that isn't the API's, without acting, as a proxy might."""
        return Fault("other_words", Fault.status(200, body).play)

    @staticmethod
    def redirect(location: str) -> "Fault":
        """Send the caller elsewhere with a 307, which keeps the method."""
        answer = Answer(307, b"", {"location": location})
        return Fault("redirect", lambda exchange: exchange.deliver(answer))

    @staticmethod
    def rate_limited(reset_in_seconds: float) -> "Fault":
        """Answer 429 as the rate limiter does: its reset in unix ms, and no Retry-After."""
        return Fault("rate_limited", lambda exchange: exchange.deliver(too_many(reset_in_seconds)))

    @staticmethod
    def junk(status: int = 200, act: bool = False) -> "Fault":
        """Answer with an HTML page, as a proxy or a captive portal would."""

        def play(exchange: Exchange) -> None:
            exchange.answer(act)
            exchange.deliver(page(status, "Hello"))

        return Fault("junk", play)

    @staticmethod
    def delay(seconds: float) -> "Fault":
        """Wait, then act and answer, even if the caller has gone by then."""

        def play(exchange: Exchange) -> None:
            exchange.wait(seconds)
            exchange.deliver(exchange.answer())

        return Fault("delay", play)

    @staticmethod
    def hang(seconds: float, act: bool = False) -> "Fault":
        """Act at once or not at all, stay silent, then close without an answer."""

        def play(exchange: Exchange) -> None:
            exchange.answer(act)
            exchange.wait(seconds)
            exchange.close()

        return Fault("hang", play)

    @staticmethod
    def reset(act: bool = False) -> "Fault":
        """Reset the connection instead of answering."""

        def play(exchange: Exchange) -> None:
            exchange.answer(act)
            exchange.reset()

        return Fault("reset", play)

    @staticmethod
    def close(act: bool = False) -> "Fault":
        """Close the connection cleanly instead of answering."""
        return Fault("close", Fault.hang(0, act).play)

    @staticmethod
    def half_body(act: bool = False) -> "Fault":
        """Announce the whole answer, send half of its body and close."""

        def play(exchange: Exchange) -> None:
            answer = exchange.answer(act)
            content = answer.content()
            exchange.send(answer.head() + content[: len(content) // 2])
            exchange.close()

        return Fault("half_body", play)

    @staticmethod
    def drip(
        seconds_per_byte: float, act: bool = False, where: Literal["headers", "body"] = "headers"
    ) -> "Fault":
        """Answer a byte at a time, from the status line on or only the body."""

        def play(exchange: Exchange) -> None:
            answer = exchange.answer(act)
            exchange.send(answer.head(), seconds_per_byte if where == "headers" else 0.0)
            exchange.send(answer.content(), seconds_per_byte)

        return Fault(f"drip {where}", play)
