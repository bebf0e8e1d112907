"""Requests to the stand-in and the answers to them, as they look on the wire."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import responses
from urllib.parse import unquote

ROOT = "/api/v1/schedules"

# Of Trigger.dev's cloud: requests a minute.
RATE_LIMIT = 1500
RATE_WINDOW = 60.0

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
PROBLEM = "application/problem+json; charset=utf-8"


@dataclass(frozen=True)
class Request:
    """A request as it arrived.

    *path* is the raw request target, neither decoded nor normalised; header names are in lower
    case; *fault* is the kind of the fault it met, None if it met none; *at* is in seconds of
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
        """The path without its query, still encoded."""
        return self.path.partition("?")[0]

    @property
    def schedule_id(self) -> str | None:
        """The path's last part, decoded: an id or a deduplication key; None if it has none."""
        key = self.route.removeprefix(f"{ROOT}/")
        return None if not key or "/" in key else unquote(key)


@dataclass(frozen=True)
class Answer:
    """A whole answer: *headers* go over those that every answer has."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def head(self) -> bytes:
        """Return the status line and the headers, down to the empty line."""
        phrase = responses.get(self.status, "Unknown")
        headers = {**_rate_limit(), "content-length": str(len(self.body))}
        headers |= {name.lower(): value for name, value in self.headers.items()}
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def json_answer(status: int, data: object, content_type: str = JSON) -> Answer:
    """Return an answer with *data* as its JSON body."""
    return Answer(status, json.dumps(data).encode(), {"content-type": content_type})


def now_ms(after: float = 0.0) -> int:
    """Return the unix time in milliseconds, *after* seconds from now."""
    return int((time.time() + after) * 1000)


def _rate_limit() -> dict[str, str]:
    """Return the headers that the rate limiter puts on every answer; the reset in unix ms."""
    return {
        "x-ratelimit-limit": str(RATE_LIMIT),
        "x-ratelimit-remaining": str(RATE_LIMIT - 1),
        "x-ratelimit-reset": str(now_ms(RATE_WINDOW)),
    }
