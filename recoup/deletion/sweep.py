"""What settles by itself: a look, now and again, for all that was left in the middle.

Each worker does it about every `SWEEP_SECONDS`, and `recoup tasks recover` does it at once.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from recoup import log, metrics
from recoup.database import statements
from recoup.database.connection import DatabaseFailed, release
from recoup.deletion.doubt import SETTLING_SECONDS, settle
from recoup.deletion.outcomes import DeletionInDoubt, DeletionUnfinished
from recoup.deletion.recovery import recover
from recoup.deletion.staged import Deleter

SWEEP_SECONDS = 30.0
MOST_PER_SWEEP = 100


class Settled(NamedTuple):
    """What became of one task: its `state` as in the log, and why it is not settled, if so."""

    task_id: str
    state: str
    reason: str | None


def sweep(deleter: Deleter, most: int = MOST_PER_SWEEP) -> Iterator[Settled]:
    """Try each deletion that was left in the middle once, the longest waiting first.

    `most`: how many of a kind.

    Raises:
        DatabaseFailed: they can't be looked for, or could not be completed.
    """
    problems = deleter.readiness.refresh()
    if problems:
        raise DatabaseFailed(" ".join(problems))
    for task_id in _list(statements.expired_marks, most):
        yield _try("recovery", recover, deleter, task_id)
    for task_id in _list(statements.old_doubts, SETTLING_SECONDS, most):
        yield _try("doubt", settle, deleter, task_id)


def _list(statement: Callable[..., list[str]], *params: object) -> list[str]:
    try:
        return statement(*params)
    finally:
        release()


def _try(
    event: str, settle_one: Callable[[Deleter, str], object], deleter: Deleter, task_id: str
) -> Settled:
    reason = None
    with log.record(event, task=task_id) as notes:
        try:
            settle_one(deleter, task_id)
        except DeletionInDoubt as error:
            reason = str(error)
            log.note(level=logging.WARNING)
        except (DeletionUnfinished, DatabaseFailed) as error:
            reason = str(error.__cause__ or error)
            log.note(state="marked")
            log.fail(error)
        finally:
            release()
    metrics.count_settling(event, notes)
    return Settled(task_id, notes["state"], reason)


def start_sweeper(deleter: Deleter) -> None:
    """Sweep now and about every `SWEEP_SECONDS`, in a thread of its own."""
    threading.Thread(target=_sweep_forever, args=(deleter,), name="sweeper", daemon=True).start()


def _sweep_forever(deleter: Deleter) -> None:
    # The workers of one server start together, and should not ask together.
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
