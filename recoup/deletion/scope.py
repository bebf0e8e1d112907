"""Finds the task to delete, if the caller may delete it."""

from recoup import log
from recoup.database import statements
from recoup.database.statements import Standing, Task
from recoup.deletion.outcomes import AccessDenied, Caller, TaskNotFound


def find_in_scope(task_id: str, caller: Caller | None) -> str | None:
    """Return the schedule that the task names. Without a caller it is an operator, who may do all.

    Raises:
        TaskNotFound, AccessDenied, DatabaseFailed
    """
    log.note(step="find", task=task_id)
    if caller is None:
        standing = statements.find_standing(task_id)
        if standing is None:
            raise TaskNotFound
        note_row(standing)
        return standing.schedule_id
    task = statements.find_task(task_id, caller.account_id, caller.admin_organization)
    if task is None:
        raise TaskNotFound
    note_row(task)
    if not task.allowed:
        raise AccessDenied
    return task.schedule_id


def note_row(row: Task | Standing) -> None:
    """Note whose task it is, and the length of its title; the title itself is private."""
    log.note(owner=row.owner, title_length=row.title_length)


def note_request(standing: Standing | None) -> None:
    """Note, for a deletion that is tried again, whose task it is and who had asked for it."""
    if standing:
        note_row(standing)
        log.note(account=standing.requested_by)
