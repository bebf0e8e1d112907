"""Waiting for what happens in another thread or process."""

import time
from collections.abc import Callable
from typing import TypeVar

SECONDS = 60
T = TypeVar("T")


def wait_for(condition: Callable[[], T], said: Callable[[], str] = str) -> T:
    """Return what *condition* returns, as soon as that is true.

    AssertionError after 60 s, with what was *said* until then, for example in a log.
    """
    end = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain; {said()}"
        time.sleep(0.01)
    return value
