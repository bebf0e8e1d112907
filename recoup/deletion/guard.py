"""Collecting orphans: tasks whose rows others deleted, as the guard has recorded them.

Any schedule that such a task has left is cancelled by the rules of a deletion. Then the record is
removed. If that fails, the record stays for the next try, for as long as it takes. If the row is
there again, because it was put back or its delete was stopped, the record is removed too.

A cascade may leave thousands, and other programs share the key's rate limit. So one worker collects
at a time, in rounds, and sends its requests as slowly as the inventory does.
"""

import logging
import time
from collections.abc import Iterator
from functools import partial
from uuid import uuid4

from recoup import log
from recoup.database import orphans, statements
from recoup.database.connection import release
from recoup.database.orphan_queries import LONGEST_PAUSE_SECONDS
from recoup.database.orphans import Orphan
from recoup.deletion.outcomes import OrphanWaiting
from recoup.deletion.settling import Settled, note_report, try_one
from recoup.deletion.staged import Deleter
from recoup.trigger.cancellation import CancelFailed, Cancellation
from recoup.trigger.inventory import SECONDS_BETWEEN_REQUESTS

# The pause after a failed try; it doubles each time.
FIRST_PAUSE_SECONDS = 30
# After this many failures in a row Trigger.dev is not well. The others are left for later.
MOST_FAILURES = 5


def collect(deleter: Deleter, seconds: float) -> Iterator[Settled]:
    """Try the records that are due, each once, the longest due first; unless another worker does.

    None is begun after `seconds`.

    Raises:
        DatabaseFailed: the records can't be asked for.
    """
    token, end, failures = str(uuid4()), time.monotonic() + seconds, 0
    due = orphans.due_orphans(int(seconds / SECONDS_BETWEEN_REQUESTS))
    for orphan in due:
        began = time.monotonic()
        if began > end or failures == MOST_FAILURES:
            break
        if not orphans.hold_collection(token, deleter.lease_seconds):
            break
        cancellation = deleter.begin(orphan.task_id, orphan.schedule_id)
        work = partial(_collect_one, deleter, orphan, cancellation)
        settled = try_one("orphan", orphan.task_id, work)
        failures = failures + 1 if settled.reason else 0
        yield settled
        share = cancellation.report.attempts * SECONDS_BETWEEN_REQUESTS
        time.sleep(max(0.0, began + share - time.monotonic()))
    if due:
        orphans.end_collection(token)
    release()


def _collect_one(deleter: Deleter, orphan: Orphan, cancellation: Cancellation) -> None:
    """Cancel the schedules that an orphan has left, and remove its record.

    Notes as `state` how it ended: `cancelled`, `gone` (there were none), `kept` (its row is there
    again) or `overtaken` by another; and as `waited` for how many seconds it was an orphan.

    Raises:
        OrphanWaiting, DatabaseFailed: the record stays for the next try.
    """
    listed = time.monotonic()
    log.note(schedule=orphan.schedule_id, waited=round(orphan.age_seconds, 1))
    pause = min(FIRST_PAUSE_SECONDS * 2**orphan.attempts, LONGEST_PAUSE_SECONDS)
    if not orphans.claim_orphan(orphan, pause):
        log.note(state="overtaken")
        return
    row_is_there = statements.find_standing(orphan.task_id) is not None
    release()
    state = "kept" if row_is_there else _cancel(deleter, cancellation)
    orphans.forget_orphan(orphan)
    log.note(state=state, waited=round(orphan.age_seconds + time.monotonic() - listed, 1))


def _cancel(deleter: Deleter, cancellation: Cancellation) -> str:
    report = cancellation.report
    try:
        deleter.schedules.cancel(cancellation)
    except CancelFailed as error:
        note_report(report, str(error))
        raise OrphanWaiting(str(error)) from error
    report.missing = False  # whoever deleted the row may have cancelled too
    note_report(report)
    log.note(level=logging.WARNING if report.unproven or report.foreign else logging.INFO)
    return "cancelled" if report.cancelled else "gone"
