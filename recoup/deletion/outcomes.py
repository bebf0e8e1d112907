"""How a deletion can fail, and who asks for it."""

from dataclasses import dataclass


class TaskNotFound(Exception):
    """There is no such task, or no longer."""


class AccessDenied(Exception):
    """The task's account is outside the caller's scope."""


class DeletionNotPossible(Exception):
    """The database would not let the deletion be finished; nothing was begun."""


class DeletionRolledBack(Exception):
    """The schedule could not be cancelled; the task is as it was."""


class DeletionInDoubt(Exception):
    """The row is kept; Trigger.dev may have cancelled without saying so, and is asked later."""


class DeletionUnfinished(Exception):
    """The mark stands, or may; if it does, the deletion is completed automatically."""


class OrphanWaiting(Exception):
    """The schedule of a task that is gone may still be there; it is tried again."""


class DeletionPending(Exception):
    """Another deletion of the task did not end within the deadline."""


@dataclass(frozen=True)
class Caller:
    """Who asks: an account, and the organization whose members may act for everybody."""

    account_id: str
    admin_organization: str | None = None
