"""The staged delete: a task goes together with its schedule, or stays as it was.

1. *Stage*: a mark in `task_deletions`. It is the lock, one deletion at a time for a task, and
   what a crash leaves behind to be completed.
2. *Cancel* the schedule at Trigger.dev, with no connection or lock held.
3. *Finish*: the row is deleted, and the mark with it by cascade. Or *roll back*: the mark is
   removed, and the task is what it was, as nothing of it was changed.

A mark whose lease has run out may be taken over by anyone. Its first owner may have cancelled
already, so a mark that was taken over only goes forward, or stays for the next try.
"""

import logging
import time
from dataclasses import dataclass, field
from typing import Protocol
from uuid import uuid4

from recoup import log
from recoup.database import statements
from recoup.database.connection import AnswerLost, ConstraintFailed, DatabaseFailed, release
from recoup.deletion.outcomes import (
    AccessDenied,
    Caller,
    DeletionPending,
    DeletionRolledBack,
    DeletionUnfinished,
    TaskNotFound,
)
from recoup.http.deadline import Deadline
from recoup.trigger.cancel import CancelFailed, CancelReport

# How far the machines' work may lag behind a deadline before another takes over.
LEASE_MARGIN_SECONDS = 15
POLL_SECONDS = 0.05
# With less time left no cancel is begun: its answer would come too late to be heard.
SHORTEST_CANCEL_SECONDS = 0.5


class _MarkLost(Exception):
    """Another owner has taken over the mark."""


class Schedules(Protocol):
    """What a deletion needs of Trigger.dev; see `recoup.trigger.cancel.TriggerSchedules.cancel`."""

    def cancel(self, schedule_id: str | None, task_id: str, deadline: Deadline) -> CancelReport: ...


@dataclass(frozen=True)
class _Mark:
    task_id: str
    taken_over: bool = False
    token: str = field(default_factory=lambda: str(uuid4()))


class Deleter:
    """Deletes tasks, each within `deadline_seconds`. Threads may share it."""

    def __init__(self, schedules: Schedules, deadline_seconds: float) -> None:
        self._schedules = schedules
        self._deadline_seconds = deadline_seconds
        self._lease_seconds = deadline_seconds + LEASE_MARGIN_SECONDS

    def delete(self, task_id: str, caller: Caller | None) -> None:
        """Delete a task and cancel its schedule; no caller is the operator, who may do all.

        Raises:
            TaskNotFound, AccessDenied: nothing was changed.
            DeletionRolledBack, DeletionPending: this call has changed nothing.
            DeletionUnfinished: the deletion will be completed later.
            DatabaseFailed: before anything was changed.
        """
        deadline = Deadline(self._deadline_seconds)
        schedule_id = self._schedule_in_scope(task_id, caller)
        requested_by = caller.account_id if caller else None
        while True:
            mark = self._acquire(task_id, requested_by, deadline)
            try:
                return self._carry_out(mark, schedule_id, deadline)
            except _MarkLost:
                continue

    def recover(self, task_id: str) -> bool:
        """Complete a deletion whose mark has expired; False if somebody else was faster.

        Raises:
            DeletionUnfinished, DatabaseFailed: the mark stays for the next try.
        """
        mark = _Mark(task_id, taken_over=True)
        if not statements.take_over_mark(task_id, mark.token, self._lease_seconds):
            return False
        standing = statements.find_standing(task_id)
        try:
            self._carry_out(
                mark, standing and standing.schedule_id, Deadline(self._deadline_seconds)
            )
        except _MarkLost:
            return False
        return True

    def _schedule_in_scope(self, task_id: str, caller: Caller | None) -> str | None:
        log.note(step="find", task=task_id)
        if caller is None:
            standing = statements.find_standing(task_id)
            if standing is None:
                raise TaskNotFound
            return standing.schedule_id
        task = statements.find_task(task_id, caller.account_id, caller.admin_organization)
        if task is None:
            raise TaskNotFound
        if not task.allowed:
            raise AccessDenied
        return task.schedule_id

    def _acquire(self, task_id: str, requested_by: str | None, deadline: Deadline) -> _Mark:
        """Stage the deletion; where another one is under way, wait for what becomes of it."""
        while deadline.left() > SHORTEST_CANCEL_SECONDS:
            mark = _Mark(task_id)
            if self._place(mark, requested_by):
                return mark
            mark = _Mark(task_id, taken_over=True)
            if statements.take_over_mark(task_id, mark.token, self._lease_seconds):
                return mark
            self._wait_for_another(task_id, deadline)
        raise DeletionPending

    def _place(self, mark: _Mark, requested_by: str | None) -> bool:
        log.note(step="stage")
        try:
            return statements.place_mark(
                mark.task_id, mark.token, requested_by, self._lease_seconds
            )
        except ConstraintFailed:
            raise TaskNotFound from None
        except AnswerLost as error:
            # Where there is no mark to remove, one may come yet, from a server that was given up.
            log.note(state="marked")
            if not self._remove(mark):
                raise DeletionUnfinished from error
            log.note(state="kept")
            raise

    def _wait_for_another(self, task_id: str, deadline: Deadline) -> None:
        log.note(step="wait")
        while deadline.left() > 0 and statements.mark_has_expired(task_id) is False:
            release()
            time.sleep(POLL_SECONDS)

    def _carry_out(self, mark: _Mark, schedule_id: str | None, deadline: Deadline) -> None:
        """Cancel and finish; once more where another program gave the row a new schedule."""
        while True:
            self._cancel(mark, schedule_id, deadline)
            log.note(step="finish")
            try:
                if statements.remove_task(mark.task_id, schedule_id, mark.token):
                    return log.note(state="deleted")
                standing = statements.find_standing(mark.task_id)
            except DatabaseFailed as error:
                raise DeletionUnfinished from error
            if standing is None:
                # The row went without us; SQLite without foreign keys leaves the mark.
                self._remove(mark)
                return log.note(state="deleted")
            if standing.token != mark.token:
                raise _MarkLost
            if standing.schedule_id == schedule_id:
                # Nothing stands against deleting the row, and it is there: a policy or a trigger.
                raise DeletionUnfinished("the database did not delete the row")
            schedule_id = standing.schedule_id

    def _cancel(self, mark: _Mark, schedule_id: str | None, deadline: Deadline) -> None:
        log.note(step="cancel", schedule=schedule_id, state="marked")
        release()
        try:
            report = self._schedules.cancel(schedule_id, mark.task_id, deadline)
        except CancelFailed as error:
            _note_report(error.report)
            if mark.taken_over:
                raise DeletionUnfinished from error
            log.note(step="roll back")
            if not self._remove(mark):
                raise DeletionUnfinished from error
            log.note(state="in doubt" if error.report.in_doubt else "kept")
            raise DeletionRolledBack from error
        _note_report(report)
        log.note(level=logging.WARNING if report.missing else logging.INFO)

    def _remove(self, mark: _Mark) -> bool:
        try:
            return statements.remove_mark(mark.task_id, mark.token)
        except DatabaseFailed as error:
            raise DeletionUnfinished from error


def _note_report(report: CancelReport) -> None:
    """Note how a cancel went, and count its attempts in with those of an earlier one."""
    statuses = (log.noted("upstream_statuses") or []) + report.upstream_statuses
    log.note(
        attempts=len(statuses),
        upstream_status=report.upstream_status,
        **vars(report) | {"upstream_statuses": statuses},
    )
