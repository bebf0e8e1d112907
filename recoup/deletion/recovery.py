"""Recovery: completes deletions that were left in the middle and whose marks have expired."""

from recoup import log
from recoup.database import statements
from recoup.deletion import marks
from recoup.deletion.scope import note_request
from recoup.deletion.staged import Deleter, MarkLost


def recover(deleter: Deleter, task_id: str) -> bool:
    """Complete a deletion whose mark has expired; False if somebody else does.

    Notes as `state` how it ended: `deleted`, or `overtaken` by another.

    Raises:
        DeletionNotPossible, DeletionUnfinished, DatabaseFailed: the mark stays for the next try.
    """
    mark = marks.take_over(task_id, deleter.lease_seconds)
    if mark is None:
        log.note(state="overtaken")
        return False
    standing = statements.find_standing(task_id)
    note_request(standing)
    try:
        if standing and standing.token != mark.token:
            raise MarkLost  # and nobody asked for this row, which has been put back meanwhile
        deleter.check_possible(task_id)
        deleter.carry_out(mark, deleter.begin(task_id, standing and standing.schedule_id))
    except MarkLost:
        log.note(state="overtaken")
        return False
    return True
