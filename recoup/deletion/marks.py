"""The mark of a deletion that is under way, as its owner sees it.

A statement whose answer was lost is sent once more. That is safe: it applies to one token only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from uuid import uuid4

from recoup import log
from recoup.database import statements
from recoup.database.connection import AnswerLost, ConstraintFailed, DatabaseFailed
from recoup.deletion.outcomes import DeletionUnfinished, TaskNotFound


class Origin(Enum):
    """How we came by a mark."""

    PLACED = "placed"
    # Its owner may have cancelled and died: the deletion only goes forward.
    EXPIRED = "expired"
    # Trigger.dev may have cancelled: unless more becomes known, the doubt stays.
    DOUBTFUL = "doubtful"


@dataclass(frozen=True)
class Mark:
    """A mark with our token on it, until somebody takes it over."""

    task_id: str
    origin: Origin
    token: str = field(default_factory=lambda: str(uuid4()))


def acquire(task_id: str, requested_by: str | None, lease_seconds: float) -> Mark | None:
    """Mark the task, or take over a mark without a living owner; None if it has one.

    Raises:
        TaskNotFound: there is no such task any more.
        DeletionUnfinished: there may be a mark of ours, which is then completed later.
        DatabaseFailed: nothing was changed.
    """
    mark = Mark(task_id, Origin.PLACED)
    if _place(mark, requested_by, lease_seconds):
        return mark
    try:
        return take_over(task_id, lease_seconds) or _take_over_doubtful(task_id, lease_seconds)
    except AnswerLost as error:
        raise _unfinished() from error


def take_over(task_id: str, lease_seconds: float) -> Mark | None:
    """Take over the mark of a deletion that was left in the middle; None if there is none."""
    mark = Mark(task_id, Origin.EXPIRED)
    return mark if statements.take_over_mark(task_id, mark.token, lease_seconds) else None


def _take_over_doubtful(task_id: str, lease_seconds: float) -> Mark | None:
    mark = Mark(task_id, Origin.DOUBTFUL)
    return mark if statements.take_over_doubt(task_id, mark.token, lease_seconds) else None


def _place(mark: Mark, requested_by: str | None, lease_seconds: float) -> bool:
    try:
        return statements.place_mark(mark.task_id, mark.token, requested_by, lease_seconds)
    except ConstraintFailed:
        raise TaskNotFound from None
    except AnswerLost as error:
        if not _was_removed(mark):
            raise _unfinished() from error
        raise


def _unfinished() -> DeletionUnfinished:
    log.note(state="marked")  # for all that is known
    return DeletionUnfinished()


def _was_removed(mark: Mark) -> bool:
    """Whether the mark was there and is now removed.

    If there is none to remove, one may still come, from a server that we gave up on.
    """
    try:
        return statements.remove_mark(mark.task_id, mark.token)
    except DatabaseFailed:
        return False


def remove(mark: Mark) -> bool:
    """Take our mark off the task; False if it is no longer ours.

    Raises:
        DeletionUnfinished: the mark may still stand.
    """
    statement = partial(statements.remove_mark, mark.task_id, mark.token)
    return _insist(statement, partial(_is_unmarked, mark.task_id))


def turn_doubtful(mark: Mark) -> bool:
    """Leave the task in doubt; False if the mark is no longer ours.

    Raises:
        DeletionUnfinished: the mark may still stand as it was.
    """
    statement = partial(statements.turn_doubtful, mark.task_id, mark.token)
    # If another has taken the mark over meanwhile, it settles the doubt.
    return _insist(statement, lambda: True)


def _insist(statement: Callable[[], bool], was_done: Callable[[], bool]) -> bool:
    """Run a statement that returns whether it did something; again if its answer was lost."""
    try:
        try:
            return statement()
        except AnswerLost:
            return statement() or was_done()
    except DatabaseFailed as error:
        raise DeletionUnfinished from error


def _is_unmarked(task_id: str) -> bool:
    standing = statements.find_standing(task_id)
    return standing is None or standing.token is None
