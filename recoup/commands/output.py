"""A command's output may go to a full disk, or to a pipe that nobody reads."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click


@contextmanager
def output_errors_as(kind: type[click.ClickException]) -> Iterator[None]:
    """Raise a failure to write the output as *kind*, with one line."""
    try:
        yield
    except OSError as error:
        # Others name a file, or, as those of `requests`, have no number. click itself ends quietly
        # where nobody reads on.
        if error.filename or error.errno in (None, errno.EPIPE):
            raise
        _discard_output()
        raise kind(f"the output can't be written: {error.strerror}") from error


def _discard_output() -> None:
    """Drop what is still to be written: Python tries again at its end, and would fail again."""
    with suppress(OSError, AttributeError):  # in memory, or closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
