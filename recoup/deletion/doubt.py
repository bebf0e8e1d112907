"""Doubts: deletions of which Trigger.dev may have cancelled the schedule without saying so.

The row was kept, and its mark says since when it is in doubt. A new request takes such a mark
over at once. Otherwise the sweep asks Trigger.dev, once all earlier requests must have ended
there. If the task still has a schedule, it is whole and the mark goes. If it has none, the
deletion is completed. If Trigger.dev can't be asked, the doubt stays for the next look.
"""

from recoup import log
from recoup.database import statements
from recoup.database.connection import release
from recoup.deletion import marks
from recoup.deletion.marks import Mark, Origin
from recoup.deletion.outcomes import DeletionInDoubt, DeletionNotPossible
from recoup.deletion.scope import note_request
from recoup.deletion.settling import note_report
from recoup.deletion.staged import Deleter, MarkLost
from recoup.trigger.answers import SETTLING_SECONDS
from recoup.trigger.cancellation import CancelFailed


def settle(deleter: Deleter, task_id: str) -> None:
    """Ask how a doubtful deletion ended, and complete it or leave the task whole.

    Notes as `state` what the task is now: `kept`, `deleted`, or `overtaken` by another.

    Raises:
        DeletionInDoubt: it is not known yet, or the database would not let the row be deleted.
        DeletionUnfinished, DatabaseFailed: the mark stays for the next try.
    """
    mark = Mark(task_id, Origin.EXPIRED)
    if not statements.claim_doubt(task_id, mark.token, SETTLING_SECONDS, deleter.lease_seconds):
        return log.note(state="overtaken")
    standing = statements.find_standing(task_id)
    note_request(standing)
    release()
    cancellation = deleter.begin(task_id, standing and standing.schedule_id)
    log.note(step="look up", schedule=cancellation.schedule_id)
    try:
        whole = deleter.schedules.has_schedule(cancellation)
        if not whole:
            deleter.check_possible(task_id)
    except CancelFailed as error:
        note_report(cancellation.report, str(error))
        raise DeletionInDoubt(str(error)) from error
    except DeletionNotPossible as error:
        log.note(reason=str(error))
        raise DeletionInDoubt(str(error)) from error
    if whole:
        return log.note(state="kept" if marks.remove(mark) else "overtaken")
    if not statements.go_forward(task_id, mark.token, deleter.lease_seconds):
        return log.note(state="overtaken")
    try:
        deleter.carry_out(mark, deleter.begin(task_id, cancellation.schedule_id))
    except MarkLost:
        log.note(state="overtaken")
