"""A cancellation of one task's schedules, and its report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from recoup.http.deadline import Deadline
from recoup.trigger.schedule import named_in


@dataclass
class CancelReport:
    """How cancelling a task's schedules went so far; one report for all rounds of a deletion.

    `upstream_statuses`: of each attempt; None without an answer.
    `cancelled`: the schedules that were cancelled, in Trigger.dev's own words.
    `last_said`: what the last attempt was answered, or why it had no answer.
    `in_doubt`: Trigger.dev may have acted on an attempt without saying so.
    `missing`: the row names a schedule that was gone, though no call of ours cancelled it.
    `foreign`: the row names a schedule of another task, which was left alone.
    `unproven`: a 404 counted, or was refused, without another schedule that proves the key.
    """

    upstream_statuses: list[int | None] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    last_said: str = "nothing was sent"
    in_doubt: bool = False
    missing: bool = False
    foreign: bool = False
    unproven: bool = False

    @property
    def attempts(self) -> int:
        """How many attempts were made."""
        return len(self.upstream_statuses)

    @property
    def has_begun(self) -> bool:
        """Whether anything was cancelled, or may have been."""
        return self.in_doubt or bool(self.cancelled)


class CancelFailed(Exception):
    """A schedule is not known to be gone; the message says why."""


@dataclass
class Cancellation:
    """Whose schedules to cancel, until when, and how it went.

    `schedule_id`: the schedule that the task's row names; None or empty: none.
    `others`: returns schedules that a few other tasks name, to prove the key.
    """

    task_id: str
    schedule_id: str | None
    deadline: Deadline
    others: Callable[[], Sequence[str]]
    report: CancelReport = field(default_factory=CancelReport)

    @property
    def named(self) -> str:
        """The id that the row names, as Trigger.dev knows it; empty: none."""
        return named_in(self.schedule_id)
