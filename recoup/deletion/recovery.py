"""Deletions that were left in the middle, found by their expired marks and completed."""

from recoup.database import statements
from recoup.database.connection import release
from recoup.deletion import marks
from recoup.deletion.staged import Deleter, MarkLost
from recoup import log


def recover(deleter: Deleter, task_id: str) -> None:
    """Complete a deletion whose mark has expired.

    Notes as `state` what became of it: `deleted`, or `overtaken` by another.

    Raises:
        DeletionUnfinished, DatabaseFailed: the mark stays for the next try.
    """
    mark = marks.take_over(task_id, deleter.lease_seconds)
    if mark is None:
        return log.note(state="overtaken")
    standing = statements.find_standing(task_id)
    release()
    try:
        deleter.carry_out(mark, deleter.begin(task_id, standing and standing.schedule_id))
    except MarkLost:
        log.note(state="overtaken")
