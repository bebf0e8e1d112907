"""Waiting for what happens in another thread or process."""

import time
from collections.abc import Callable
from typing import TypeVar

SECONDS = 30
T = TypeVar("T")


def wait_for(
    condition: Callable[[], T], said: Callable[[], str] = str, seconds: float = SECONDS
) -> T:
    """Return what *condition* returns, as soon as that is true.

    AssertionError after so many seconds, with what was *said* until then, for example in a log.
    """
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain; {said()}"
        time.sleep(0.01)
    return value
