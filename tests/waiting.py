"""Waiting for what happens in another thread or process."""

import time
from collections.abc import Callable
from typing import TypeVar

SECONDS = 30
T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str = "it") -> T:
    """Return what *condition* returns, as soon as that is true; AssertionError after 30 s."""
    end = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)
    return value
