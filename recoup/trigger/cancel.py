"""Cancels the schedule of a task. Knows neither Flask nor the database."""

import time
from dataclasses import dataclass, field

import requests

from recoup.http.deadline import Deadline
from recoup.trigger.answers import (
    Verdict,
    judge,
    may_have_acted,
    seconds_until_reset,
    was_sent,
)
from recoup.trigger.route import ATTEMPT_SHARE, DOT_SEGMENTS, SchedulesRoute, persist


@dataclass
class CancelReport:
    """What happened in one cancel, for the log.

    `in_doubt`: Trigger.dev may have acted on an attempt whose answer never came.
    `missing`: it knew neither the schedule's id nor the task's deduplication key, and it was
    not us who had it deleted.
    `upstream_statuses`: of each attempt, None for one without an answer.
    """

    upstream_statuses: list[int | None] = field(default_factory=list)
    reason: str | None = None
    missing: bool = False
    in_doubt: bool = False

    @property
    def attempts(self) -> int:
        """How many were made."""
        return len(self.upstream_statuses)

    @property
    def upstream_status(self) -> int | None:
        """The last attempt's."""
        return self.upstream_statuses[-1] if self.upstream_statuses else None


class CancelFailed(Exception):
    """The schedule is not known to be gone."""

    def __init__(self, report: CancelReport) -> None:
        super().__init__(report.reason)
        self.report = report


class TriggerSchedules(SchedulesRoute):
    """Cancels schedules."""

    def cancel(self, schedule_id: str | None, task_id: str, deadline: Deadline) -> CancelReport:
        """Cancel a task's schedule, by its id and, where that is unknown, by the task's own id.

        Raises:
            CancelFailed: refused, or not settled before the deadline.
        """
        report = CancelReport()
        for key in filter(None, (schedule_id, task_id)):
            if key in DOT_SEGMENTS:
                continue
            if self._delete(key, deadline, report) is Verdict.CANCELLED:
                return report
        report.missing = not report.in_doubt
        return report

    def _delete(self, key: str, deadline: Deadline, report: CancelReport) -> Verdict:
        """Send DELETE until it is settled; return CANCELLED or MISSING."""
        verdict = persist(lambda left: self._attempt(key, left, report), deadline)
        if verdict in (Verdict.CANCELLED, Verdict.MISSING):
            return verdict
        if verdict is None:
            report.reason = f"out of time, after: {report.reason or 'nothing was sent'}"
        raise CancelFailed(report)

    def _attempt(self, key: str, left: float, report: CancelReport) -> tuple[Verdict, float]:
        """Send one DELETE; return what it means and the seconds that the server said to wait."""
        seconds = left if report.attempts else left * ATTEMPT_SHARE
        try:
            answer = self._send("DELETE", (key,), seconds)
        except requests.RequestException as error:
            report.upstream_statuses.append(None)
            report.reason = type(error).__name__
            report.in_doubt |= was_sent(error)
            return Verdict.RETRY, 0.0
        report.upstream_statuses.append(answer.status)
        report.reason = f"Trigger.dev answered {answer.status}"
        report.in_doubt |= may_have_acted(answer.status)
        return judge(answer), seconds_until_reset(answer, time.time())
