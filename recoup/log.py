"""Logs: one line for each request, command or recovery, with everything that is known about it.

Any code can add to the line with `note()`; the line is written at the end. On a terminal it is
text, otherwise JSON. Values are always encoded as JSON, so that none can forge a line or a field.
"""

import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from recoup.lines import LINE_BYTES, LineHandler

logger = logging.getLogger("recoup")
# A log of its own: who deleted what.
_audit_logger = logging.getLogger("recoup.audit")

# A key of ours or of Trigger.dev's, where somebody has put or quoted one.
_KEY = re.compile(r"(?<![A-Za-z0-9])(?:(recoup_sk)|(tr)_[a-z]+)_[\w-]+")
_encode = json.JSONEncoder(default=str).encode
_record: ContextVar[dict[str, Any] | None] = ContextVar("record", default=None)


@contextmanager
def record(event: str, **fields: Any) -> Iterator[dict[str, Any]]:
    """Collect notes, and write them as one line at the end, with `ms`, the time it took.

    If it ends with an exception, the line has that failure.
    """
    notes: dict[str, Any] = dict(fields)
    token = _record.set(notes)
    started = time.monotonic()
    try:
        yield notes
    except Exception as error:
        fail(error)
        raise
    finally:
        _record.reset(token)
        notes["ms"] = round((time.monotonic() - started) * 1000, 1)
        level = notes.pop("level", logging.INFO)
        logger.log(level, event, extra={"fields": notes})


def audit(event: str, *names: str) -> None:
    """Write a line of the audit with what was noted under these names."""
    notes = _record.get() or {}
    fields = {name: notes[name] for name in names if name in notes}
    _audit_logger.info(event, extra={"fields": {"logger": _audit_logger.name, **fields}})


def mask_keys(text: str) -> str:
    """Return the text with only the beginning of each key."""
    return _KEY.sub(lambda key: f"{key[1] or key[2]}_***", text)


def describe(error: Exception) -> str:
    """Return what a line says about a failure: its name, and the reason behind it."""
    return f"{type(error).__name__}: {error.__cause__ or error}".removesuffix(": ")


def note(**fields: Any) -> None:
    """Add to the current line; a later value of a name replaces an earlier one."""
    notes = _record.get()
    if notes is not None:
        notes.update(fields)


def fail(error: Exception) -> None:
    """Note a failure; as `error`, unless the noted `reason` says it all."""
    said = str(error.__cause__ or error) == noted("reason")
    note(level=logging.ERROR, error=None if said else describe(error))


def noted(name: str) -> Any:
    """Return what was noted under `name`, or None."""
    return (_record.get() or {}).get(name)


def configure(stream: TextIO | None) -> None:
    """Send this program's log to `stream`; nowhere, if that was closed before the start."""
    replaced = logger.handlers
    logger.handlers = [make_handler(stream)]
    for handler in replaced:
        handler.close()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # No line says which code or which thread wrote it.
    logging._srcfile = None  # as the "Optimization" of Python's logging HOWTO has it
    logging.logThreads = logging.logMultiprocessing = False


def make_handler(stream: TextIO | None) -> logging.Handler:
    """Make the handler for `stream`: text on a terminal, otherwise JSON."""
    if stream is None:
        return logging.NullHandler()
    try:
        handler: logging.Handler = LineHandler(stream.fileno())
    except OSError:  # a stream in memory
        handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if stream.isatty() else JSONFormatter())
    return handler


class JSONFormatter(logging.Formatter):
    """One JSON object on each line; absent values are left out, and very long ones are cut."""

    def format(self, record: logging.LogRecord) -> str:
        content = _content(record)
        line = _encode(content)
        longest = LINE_BYTES
        while len(line) >= LINE_BYTES and longest:
            longest //= 2
            line = _encode({name: _cut(value, longest) for name, value in content.items()})
        return line


def _cut(value: Any, longest: int) -> Any:
    """Return the value, or both ends of its text if that is too long."""
    text = value if isinstance(value, str) else _encode(value)
    half = longest // 2
    return value if len(text) <= longest else f"{text[:half]} ... {text[len(text) - half :]}"


class TextFormatter(logging.Formatter):
    """`time level event name=value …`, for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        content = _content(record)
        head = " ".join(str(content.pop(name)) for name in ("time", "level", "event"))
        trace = content.pop("traceback", None)
        tail = "".join(f" {name}={_encode(value)}" for name, value in content.items())
        return head + tail + (f"\n{trace}" if trace else "")


def _content(record: logging.LogRecord) -> dict[str, Any]:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    content = {
        "time": moment.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
        **getattr(record, "fields", {}),
    }
    if record.exc_info:
        content["traceback"] = logging.Formatter().formatException(record.exc_info)
    return {name: value for name, value in content.items() if value is not None}
