"""The staged delete: a task goes together with its schedule, or stays as it was.

1. *Stage*: a mark in `task_deletions`. It is the lock, one deletion at a time for a task, and
   what a crash leaves behind to be completed.
2. *Cancel* the schedules at Trigger.dev, with no connection or lock held.
3. *Finish*: the row is deleted, and the mark with it by cascade. Or *roll back*: the mark is
   removed, and the task is what it was, as nothing of it was changed.

Once a schedule was cancelled, or may have been by an owner that died, the deletion only goes
forward, or its mark stays for the next try. If Trigger.dev may have acted without saying so, the
mark turns doubtful instead of being removed; see `recoup.deletion.doubt`.
"""

import logging
import time

from recoup import log
from recoup.database import orphans, statements
from recoup.database.connection import DatabaseFailed, release
from recoup.database.readiness import Readiness
from recoup.database.statements import Standing
from recoup.deletion import marks
from recoup.deletion.marks import Mark, Origin
from recoup.deletion.outcomes import (
    Caller,
    DeletionInDoubt,
    DeletionNotPossible,
    DeletionPending,
    DeletionRolledBack,
    DeletionUnfinished,
    TaskNotFound,
)
from recoup.deletion.scope import find_in_scope
from recoup.deletion.settling import note_report
from recoup.http.deadline import Deadline
from recoup.trigger.cancel import TriggerSchedules
from recoup.trigger.cancellation import CancelFailed, Cancellation, CancelReport

# How far a machine may lag behind its deadline before another takes over.
LEASE_MARGIN_SECONDS = 15
POLL_SECONDS = 0.05
# With less time left no cancel is begun: its answer would come too late.
SHORTEST_CANCEL_SECONDS = 0.5
# A task that names no schedule may be about to get one. So its key is cancelled again after this.
SECOND_LOOK_SECONDS = 60
# How many other tasks' schedules are looked up, to prove the key.
WITNESSES = 5


# The notes that the audit keeps.
AUDITED = ("task", "owner", "title_length", "account", "key", "schedule", "request_id", "command")


class MarkLost(Exception):
    """Another owner has taken over the mark, and completes the deletion."""


class Deleter:
    """Deletes tasks, each within `deadline_seconds`. Threads may share it."""

    def __init__(self, schedules: TriggerSchedules, deadline_seconds: float) -> None:
        self.schedules = schedules
        self.readiness = Readiness()
        self.lease_seconds = deadline_seconds + LEASE_MARGIN_SECONDS
        self._deadline_seconds = deadline_seconds

    def delete(self, task_id: str, caller: Caller | None) -> None:
        """Delete a task and cancel its schedules; without a caller, as an operator, who may do all.

        Raises:
            TaskNotFound, AccessDenied, DeletionNotPossible: nothing was changed.
            DeletionRolledBack, DeletionPending: this call has changed nothing.
            DeletionInDoubt: the row is as it was, and the doubt settles automatically.
            DeletionUnfinished: the deletion will be completed later.
            DatabaseFailed: before anything was changed.
        """
        cancellation = self.begin(task_id, None)
        cancellation.schedule_id = find_in_scope(task_id, caller)
        self.check_possible(task_id)
        requested_by = caller.account_id if caller else None
        while True:
            try:
                mark = self._acquire(task_id, requested_by, cancellation)
                return self.carry_out(mark, cancellation)
            except MarkLost:
                continue
            except (TaskNotFound, DeletionPending, DatabaseFailed) as error:
                if not cancellation.report.has_begun:
                    raise
                # We had the mark. Whoever took it over completes what we had begun.
                if isinstance(error, TaskNotFound):
                    return log.note(state="deleted")
                raise DeletionUnfinished from error

    def begin(self, task_id: str, schedule_id: str | None) -> Cancellation:
        """Return a cancellation of a task's schedules, whose deadline begins now."""

        def others() -> list[str]:
            try:
                return statements.sample_schedules(task_id, WITNESSES)
            except DatabaseFailed as error:
                raise CancelFailed(f"other tasks could not be looked for: {error}") from error
            finally:
                release()

        deadline = Deadline(self._deadline_seconds)
        return Cancellation(task_id, schedule_id, deadline, others)

    def check_possible(self, task_id: str) -> None:
        """Raise DeletionNotPossible, with the reason, if the database would not delete the row."""
        problems = self.readiness.problems(task_id)
        if problems:
            raise DeletionNotPossible(" ".join(problems))

    def _acquire(self, task_id: str, requested_by: str | None, cancellation: Cancellation) -> Mark:
        """Stage the deletion; if another one is under way, wait for its end."""
        while cancellation.deadline.left() > SHORTEST_CANCEL_SECONDS:
            log.note(step="stage")
            mark = marks.acquire(task_id, requested_by, self.lease_seconds)
            if mark:
                return mark
            self._wait_for_another(task_id, cancellation.deadline)
        raise DeletionPending

    def _wait_for_another(self, task_id: str, deadline: Deadline) -> None:
        log.note(step="wait")
        while deadline.left() > 0 and statements.mark_has_expired(task_id) is False:
            release()
            time.sleep(POLL_SECONDS)

    def carry_out(self, mark: Mark, cancellation: Cancellation) -> None:
        """Cancel and finish; again if another program gave the row a new schedule.

        Raises:
            MarkLost: somebody else is completing the deletion.
            And what `delete` raises after the mark.
        """
        while True:
            self._cancel(mark, cancellation)
            standing = self._finish(mark, cancellation)
            if standing is None:
                return log.note(state="deleted")
            if standing.token != mark.token:
                raise MarkLost
            if standing.schedule_id == cancellation.schedule_id:
                # Nothing forbids the delete, but the row is still there: a trigger of the host's.
                raise DeletionUnfinished("the database did not delete the row")
            cancellation.schedule_id = standing.schedule_id

    def _finish(self, mark: Mark, cancellation: Cancellation) -> Standing | None:
        """Delete the row, if it names that schedule; return its standing, if it is still there."""
        log.note(step="finish")
        try:
            if not cancellation.named:
                orphans.record_orphan(mark.task_id, SECOND_LOOK_SECONDS)
            if statements.remove_task(mark.task_id, cancellation.schedule_id, mark.token):
                log.audit("deleted", *AUDITED)
                return None
            standing = statements.find_standing(mark.task_id)
            if standing is None:
                # Others deleted it. Without the guard nobody knows what it named at the end.
                orphans.record_orphan(mark.task_id, SECOND_LOOK_SECONDS)
                marks.remove(mark)  # SQLite without foreign keys leaves the mark.
            return standing
        except DatabaseFailed as error:
            raise DeletionUnfinished from error

    def _cancel(self, mark: Mark, cancellation: Cancellation) -> None:
        log.note(step="cancel", schedule=cancellation.schedule_id, state="marked")
        release()
        report = cancellation.report
        try:
            self.schedules.cancel(cancellation)
        except CancelFailed as error:
            note_report(report, str(error))
            raise self._give_up(mark, report, str(error)) from error
        # An earlier owner, or the attempt in doubt, may have cancelled it: no alarm.
        report.missing = report.missing and mark.origin is Origin.PLACED
        note_report(report)
        alarming = report.missing or report.unproven or report.foreign
        log.note(level=logging.WARNING if alarming else logging.INFO)

    def _give_up(self, mark: Mark, report: CancelReport, reason: str) -> Exception:
        """Undo what can be undone, and return the exception to raise."""
        if mark.origin is Origin.EXPIRED or report.cancelled:
            return DeletionUnfinished(reason)
        log.note(step="roll back")
        if report.in_doubt or mark.origin is Origin.DOUBTFUL:
            if not marks.turn_doubtful(mark):
                return DeletionUnfinished(reason)
            log.note(state="in doubt")
            return DeletionInDoubt(reason)
        if not marks.remove(mark):
            return DeletionUnfinished(reason)
        log.note(state="kept")
        return DeletionRolledBack(reason)
