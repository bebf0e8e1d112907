"""Writes the lines of a log: each line is written whole and at once, or dropped and counted.

A pipe that nobody reads is full after some hundred lines. Then the next writer waits, perhaps for
ever. No request may wait for that.
"""

import fcntl
import logging
import os
import select
import stat
from contextlib import suppress
from io import FileIO

from recoup.counts import counts

# A pipe takes this much in one piece, however many processes write to it: PIPE_BUF of Linux.
LINE_BYTES = 4096
# The most that any user may set on Linux. 64 KiB fill up while a reader is busy for a moment.
PIPE_BYTES = 1024 * 1024
# For the first line that can't be written. The lines after it are dropped at once.
PATIENCE_SECONDS = 0.05
# For what a process says when it ends.
FAREWELL_SECONDS = 1.0


class LineHandler(logging.Handler):
    """Writes to a file descriptor. The first line after a gap says how many lines are missing."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._file = FileIO(_open_again(descriptor), "wb")
        self._room = select.poll()
        self._room.register(self._file, select.POLLOUT)
        self._dropped = 0
        self._torn = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or drop it."""
        try:
            line = self._encode(record)
        except Exception:
            self.handleError(record)
            return
        patience = 0 if self._dropped else PATIENCE_SECONDS
        if not (self._tell_dropped() and self._put(line, patience)):
            self._dropped += 1
            counts.add(("recoup_log_lines_dropped",))

    def flush(self) -> None:
        """Say how many lines are missing. Python calls this when the process ends."""
        self._tell_dropped(FAREWELL_SECONDS)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _tell_dropped(self, patience: float = 0) -> bool:
        """Report the dropped lines, if any; return whether the log now says all that is missing."""
        if self._dropped:
            gap = {"msg": "log lines were dropped", "fields": {"lines": self._dropped}}
            record = logging.makeLogRecord({"levelname": "WARNING", **gap})
            if self._put(self._encode(record), patience):
                self._dropped = 0
        return not self._dropped

    def _encode(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def _put(self, line: bytes, patience: float) -> bool:
        # A full disk may have cut the last line off, which is counted as dropped.
        data = b"\n" + line if self._torn else line
        try:
            written = self._file.write(data)
        except (OSError, ValueError):
            return False  # the reader is gone, the disk is full, or this is closed
        if written is None and patience and self._room.poll(patience * 1000):
            return self._put(line, 0)
        if written:
            self._torn = written < len(data)
        return written == len(data)


def _open_again(descriptor: int) -> int:
    """Return our own descriptor of the file, on which no write waits for a reader."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or os.isatty(descriptor):
        with suppress(OSError, AttributeError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with suppress(OSError):  # it belongs to another user, or this isn't Linux
            # Other processes that use it may still wait.
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            return os.open(f"/proc/self/fd/{descriptor}", flags)
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        os.set_blocking(descriptor, False)
    return os.dup(descriptor)
