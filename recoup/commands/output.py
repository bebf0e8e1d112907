"""A command's output may go to a full disk, or to a pipe that nobody reads."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click


@contextmanager
def unwritten_as(kind: type[click.ClickException]) -> Iterator[None]:
    """Raise a failure to write the output as *kind*, with one line."""
    try:
        yield
    except OSError as error:
        # Others name a file, or, as those of `requests`, have no number.
        if error.filename or not error.errno:
            raise
        _let_go()
        raise kind(f"the output can't be written: {error.strerror}") from error


def _let_go() -> None:
    """Drop what is still to be written: Python tries again at its end, and would fail again."""
    with suppress(OSError, AttributeError):  # in memory, or closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
