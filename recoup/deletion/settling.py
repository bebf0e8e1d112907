"""One try to settle what was left in the middle, with its line in the log and its count."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from recoup import log, metrics
from recoup.database.connection import DatabaseFailed, release
from recoup.deletion.outcomes import (
    DeletionInDoubt,
    DeletionNotPossible,
    DeletionUnfinished,
    OrphanWaiting,
)
from recoup.trigger.cancellation import CancelReport

# The state before anything was done, by event.
UNSETTLED = {"recovery": "marked", "doubt": "in doubt", "orphan": "waiting"}


class Settled(NamedTuple):
    """The result for one task: its `state` as in the log, and why it is not settled, or None."""

    task_id: str
    state: str
    reason: str | None


def try_one(event: str, task_id: str, work: Callable[[], object]) -> Settled:
    """Do the work on a task, and write a line whose event is `recovery`, `doubt` or `orphan`.

    `work` notes the `state` that it reached; until then nothing is settled.
    """
    reason = None
    with log.record(event, task=task_id, state=UNSETTLED[event]) as notes:
        try:
            work()
        except (DeletionInDoubt, OrphanWaiting) as error:
            reason = str(error)
            log.note(level=logging.WARNING)
        except (DeletionNotPossible, DeletionUnfinished, DatabaseFailed) as error:
            reason = str(error.__cause__ or error)
            log.fail(error)
        except Exception as error:
            # A fault of ours, perhaps with this task alone, must not keep the others from theirs.
            reason = f"unexpected error: {type(error).__name__}"
            log.note(level=logging.ERROR, error=reason)
            log.logger.exception("unexpected error", extra={"fields": {"task": task_id}})
        finally:
            release()
    metrics.count_settling(event, notes)
    return Settled(task_id, notes["state"], reason)


def note_report(report: CancelReport, reason: str | None = None) -> None:
    """Note how the cancels went, and why they failed; false values are left out of the line."""
    refused = "unproven key" if reason and report.unproven else None
    log.note(
        upstream_statuses=report.upstream_statuses,
        reason=reason,
        missing=report.missing or None,
        foreign=report.foreign or None,
        unproven=(report.unproven and not refused) or None,
        refused=refused,
    )
