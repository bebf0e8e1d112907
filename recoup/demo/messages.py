"""Requests to the stand-in and its answers, as they are on the wire."""

import gzip
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.client import responses
from typing import Literal, Self
from urllib.parse import unquote

ROOT = "/api/v1/schedules"

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
PROBLEM = "application/problem+json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

BROKEN_ESCAPE = re.compile("%(?![0-9a-fA-F]{2})")


@dataclass(frozen=True)
class Request:
    """A request as it arrived.

    *path* is the raw request target, neither decoded nor normalised. Header names are in lower
    case. *fault* is the kind of the fault that it met, or None. *at* is in seconds of
    `time.monotonic()`.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    fault: str | None = None
    at: float = field(default_factory=time.monotonic)

    @property
    def route(self) -> str:
        """The path without its query and dot segments, still encoded."""
        return _without_dots(self.path.partition("?")[0])

    @property
    def head_size(self) -> int:
        """The size of its target and headers in bytes, roughly."""
        return len(self.path) + sum(len(f"{k}: {v}\r\n") for k, v in self.headers.items())

    @property
    def schedule_id(self) -> str | None:
        """The path's last part as the server reads it: an id or a key; None if it has none."""
        key = self.route.removeprefix(f"{ROOT}/")
        if not key or "/" in key:
            return None
        try:
            return decode_key(key)
        except ValueError:
            return None


@dataclass(frozen=True)
class Answer:
    """A whole answer: *headers* go over those that every answer has.

    *framing* says how its end is marked: by chunks, by its length, or, without a body, not at all.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    framing: Literal["chunked", "length", "none"] = "chunked"

    def head(self) -> bytes:
        """Return the status line and the headers, down to the empty line."""
        phrase = responses.get(self.status, "Unknown")
        headers = self._framing_headers()
        headers |= {name.lower(): value for name, value in self.headers.items()}
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def content(self) -> bytes:
        """Return the body as it is sent."""
        if self._ends_with_its_head():
            return b""
        if self.framing == "length":
            return self.body
        chunk = b"%x\r\n%s\r\n" % (len(self.body), self.body) if self.body else b""
        return chunk + b"0\r\n\r\n"

    def gzipped(self) -> Self:
        """Return the answer with its body packed."""
        headers = {**self.headers, "content-encoding": "gzip"}
        return replace(self, body=gzip.compress(self.body), headers=headers)

    def _framing_headers(self) -> dict[str, str]:
        if self._ends_with_its_head():
            return {}
        if self.framing == "length":
            return {"content-length": str(len(self.body))}
        return {"transfer-encoding": "chunked"}

    def _ends_with_its_head(self) -> bool:
        return self.framing == "none" or self.status < 200 or self.status in (204, 304)


def json_answer(status: int, data: object) -> Answer:
    """Return an answer with *data* as its JSON body."""
    return Answer(status, json.dumps(data).encode(), {"content-type": JSON})


def problem_answer(data: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Answer:
    """Return a problem document as the rate limiter writes it: indented, with a length."""
    body = json.dumps(data, indent=2).encode()
    status = int(str(data["status"]))
    return Answer(status, body, {"content-type": PROBLEM, **(headers or {})}, "length")


def decode(text: str) -> str:
    """Undo percent-encoding as JavaScript does; raise `ValueError` if it is broken."""
    if BROKEN_ESCAPE.search(text):
        raise ValueError("an escape is broken")
    return unquote(text, errors="strict")


def decode_key(text: str) -> str:
    """Return the key in a path's part as the server reads it; raise `ValueError` like `decode`.

    The server decodes twice if it can, so a key with an escape in it isn't found.
    """
    once = decode(text)
    try:
        return decode(once)
    except ValueError:
        return once


def now_ms(after: float = 0.0) -> int:
    """Return the unix time in milliseconds, *after* seconds from now."""
    return int((time.time() + after) * 1000)


def _without_dots(path: str) -> str:
    """Return the path with its dot segments resolved by the URL Standard."""
    kept: list[str] = []
    dots = ""
    for part in path.split("/"):
        dots = part.lower().replace("%2e", ".")
        if dots == "..":
            kept = kept[:1] + kept[1:-1]
        elif dots != ".":
            kept.append(part)
    return "/".join([*kept, ""] if dots in (".", "..") else kept)
