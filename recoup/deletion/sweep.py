"""The sweep: settles automatically what was left in the middle.

Each worker sweeps about every `SWEEP_SECONDS`. `recoup tasks recover` sweeps at once.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from recoup import log
from recoup.database import statements
from recoup.database.connection import DatabaseFailed, release
from recoup.deletion.doubt import settle
from recoup.deletion.guard import collect
from recoup.deletion.recovery import recover
from recoup.deletion.settling import Settled, try_one
from recoup.deletion.staged import Deleter
from recoup.trigger.answers import SETTLING_SECONDS

SWEEP_SECONDS = 30.0
MOST_PER_SWEEP = 100
# However many orphans there are, the other deletions get their turn again after this.
COLLECTING_SECONDS = 20


def sweep(
    deleter: Deleter, most: int = MOST_PER_SWEEP, seconds: float = COLLECTING_SECONDS
) -> Iterator[Settled]:
    """Try each deletion that was left in the middle once, and each orphan; the longest due first.

    `most`: how many deletions of each kind; `seconds`: for how long orphans are collected.

    Raises:
        DatabaseFailed: they can't be listed, or could not be completed.
    """
    problems = deleter.readiness.refresh()
    if problems:
        raise DatabaseFailed(" ".join(problems))
    for task_id in _list(statements.expired_marks, most):
        yield try_one("recovery", task_id, partial(recover, deleter, task_id))
    for task_id in _list(statements.old_doubts, SETTLING_SECONDS, most):
        yield try_one("doubt", task_id, partial(settle, deleter, task_id))
    yield from collect(deleter, seconds)


def _list(statement: Callable[..., list[str]], *params: object) -> list[str]:
    try:
        return statement(*params)
    finally:
        release()


def start_sweeper(deleter: Deleter) -> None:
    """Sweep now and about every `SWEEP_SECONDS`, in a thread of its own."""
    threading.Thread(target=_sweep_forever, args=(deleter,), name="sweeper", daemon=True).start()


def _sweep_forever(deleter: Deleter) -> None:
    # The workers of a server start together, but should not ask together.
    pause = random.uniform(0, 1)
    while True:
        time.sleep(pause)
        try:
            for _ in sweep(deleter):
                pass
        except DatabaseFailed as error:
            log.logger.error("sweep failed", extra={"fields": {"error": str(error)}})
        except Exception:
            log.logger.exception("sweep failed")
        pause = SWEEP_SECONDS * random.uniform(0.8, 1.2)
