"""Cancelling the schedules of one task: what is asked for, and what comes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from recoup.http.deadline import Deadline


@dataclass
class CancelReport:
    """What has come of cancelling a task's schedules, so far; one for all rounds of a deletion.

    `upstream_statuses`: of each attempt, None for one without an answer.
    `cancelled`: the schedules that went, in Trigger.dev's own words.
    `in_doubt`: it may have acted on an attempt without saying so.
    `missing`: the row names a schedule that was gone, though no call of ours took it.
    `foreign`: the row names a schedule of another task, which was left alone.
    `unproven`: a 404 that counts was not, or could not be, checked with another task's schedule.
    """

    upstream_statuses: list[int | None] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    reason: str | None = None
    in_doubt: bool = False
    missing: bool = False
    foreign: bool = False
    unproven: bool = False

    @property
    def attempts(self) -> int:
        """How many were made."""
        return len(self.upstream_statuses)

    @property
    def has_begun(self) -> bool:
        """Whether anything was cancelled, or may have been."""
        return self.in_doubt or bool(self.cancelled)

    @property
    def upstream_status(self) -> int | None:
        """The last attempt's."""
        return self.upstream_statuses[-1] if self.upstream_statuses else None


class CancelFailed(Exception):
    """A schedule is not known to be gone; the report has the reason."""


@dataclass
class Cancellation:
    """Cancelling the schedules of one task: whose, until when, and what has come of it.

    `schedule_id`: what the task's row names; None or empty: nothing.
    `others`: returns the schedules that a few other tasks name, to prove the key with.
    """

    task_id: str
    schedule_id: str | None
    deadline: Deadline
    others: Callable[[], Sequence[str]]
    report: CancelReport = field(default_factory=CancelReport)
