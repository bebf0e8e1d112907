"""Deletions that were left in the middle, found by their expired marks and completed."""

import logging
import random
import threading
import time

from recoup import log, metrics
from recoup.database import statements
from recoup.database.connection import DatabaseFailed, release
from recoup.deletion.outcomes import DeletionUnfinished
from recoup.deletion.staged import Deleter

SWEEP_SECONDS = 30.0
MOST_PER_SWEEP = 100


def recover_expired(deleter: Deleter) -> tuple[list[str], list[str]]:
    """Complete what has expired; return the tasks that are deleted, and those that still stand.

    Raises:
        DatabaseFailed: the marks can't be looked for.
    """
    deleted: list[str] = []
    standing: list[str] = []
    try:
        for task_id in statements.expired_marks(MOST_PER_SWEEP):
            with log.record("recovery", task=task_id) as notes:
                _recover(deleter, task_id, deleted, standing)
            metrics.count_recovery(notes)
    finally:
        release()
    return deleted, standing


def _recover(deleter: Deleter, task_id: str, deleted: list[str], standing: list[str]) -> None:
    try:
        if deleter.recover(task_id):
            deleted.append(task_id)
    except (DeletionUnfinished, DatabaseFailed) as error:
        standing.append(task_id)
        log.note(level=logging.ERROR, state="marked", error=str(error.__cause__ or error))


def start_sweeper(deleter: Deleter) -> None:
    """Look for expired marks now and about every `SWEEP_SECONDS`, in a thread of its own."""
    threading.Thread(target=_sweep_forever, args=(deleter,), name="sweeper", daemon=True).start()


def _sweep_forever(deleter: Deleter) -> None:
    # The workers of one server start together, and should not ask together.
    pause = random.uniform(0, 1)
    while True:
        time.sleep(pause)
        try:
            recover_expired(deleter)
        except DatabaseFailed as error:
            log.logger.error("sweep failed", extra={"fields": {"error": str(error)}})
        except Exception:
            log.logger.exception("sweep failed")
        pause = SWEEP_SECONDS * random.uniform(0.8, 1.2)
