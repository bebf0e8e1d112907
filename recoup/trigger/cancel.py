"""Cancels all schedules of a task. Knows neither Flask nor the database.

A task has a schedule under its own key, which is its UUID, and its row names one; nearly always the
two are the same. So the key is cancelled first, and one call is usually enough. A `404` counts only
if the secret key is proven, because a key of another environment gets a `404` for every schedule.
"""

import time
from functools import partial
from typing import Any

import requests

from recoup.http.client import Answer, read_object
from recoup.http.failures import in_words, was_sent
from recoup.trigger.answers import (
    Verdict,
    describe,
    judge_schedule,
    may_have_acted,
    schedule_id,
    seconds_until_reset,
)
from recoup.trigger.cancellation import CancelFailed, Cancellation, CancelReport
from recoup.trigger.route import ATTEMPT_SHARE, SchedulesRoute, persist
from recoup.trigger.schedule import SCHEDULE_ID, task_ids

# For how long a schedule that the key has seen proves the key's environment.
PROOF_SECONDS = 600
UNPROVEN = "TRIGGER_SECRET_KEY knows none of the schedules that other tasks name"


class TriggerSchedules(SchedulesRoute):
    """Cancels schedules, and looks up whether a task has any. Threads may share it.

    `trust_missing`: every 404 in the server's own words counts, even if the key is not proven.
    """

    def __init__(
        self, api_url: str, secret_key: str, *, trust_missing: bool = False, **options: Any
    ) -> None:
        super().__init__(api_url, secret_key, **options)
        self._trust_missing = trust_missing
        self._seen_at = float("-inf")

    def cancel(self, cancellation: Cancellation) -> None:
        """Cancel all schedules that belong to the task.

        Raises:
            CancelFailed: refused, or not settled before the deadline.
        """
        self._delete(cancellation.task_id, cancellation)
        named = cancellation.named
        if not named or named in cancellation.report.cancelled:
            return
        stored = self._look_up(named, cancellation)
        if stored is None:
            self._believe_missing(cancellation)
        elif _is_of_another(stored, cancellation.task_id):
            cancellation.report.foreign = True
        else:
            self._delete(named, cancellation)

    def has_schedule(self, cancellation: Cancellation) -> bool:
        """Return whether the task has a schedule of its own.

        Raises:
            CancelFailed: it is not known now.
        """
        if self._look_up(cancellation.task_id, cancellation):
            return True
        if not cancellation.named:
            return False
        stored = self._look_up(cancellation.named, cancellation)
        if stored is None:
            self._believe_missing(cancellation)
            return False
        return not _is_of_another(stored, cancellation.task_id)

    def _believe_missing(self, cancellation: Cancellation) -> None:
        """Take the 404 for the schedule that the row names as proof that it is gone."""
        if not self._trust_missing:
            self._prove_key(cancellation)
        cancellation.report.missing = not cancellation.report.in_doubt

    def _prove_key(self, cancellation: Cancellation) -> None:
        if time.monotonic() - self._seen_at < PROOF_SECONDS:
            return
        others = [other for other in cancellation.others() if SCHEDULE_ID.fullmatch(other)]
        if any(self._look_up(other, cancellation) for other in others):
            return
        cancellation.report.unproven = True
        if others:
            raise CancelFailed(UNPROVEN)

    def _delete(self, key: str, cancellation: Cancellation) -> None:
        answer = self._settle("DELETE", key, cancellation)
        if answer is not None:
            cancellation.report.cancelled.append(schedule_id(answer) or key)

    def _look_up(self, key: str, cancellation: Cancellation) -> dict[str, Any] | None:
        """Return the schedule with a task's key, or with the id that a row names, if it exists."""
        if key != cancellation.task_id and not SCHEDULE_ID.fullmatch(key):
            return None  # Not an id of Trigger.dev's, which might take it for somebody's key.
        answer = self._settle("GET", key, cancellation)
        return None if answer is None else read_object(answer)

    def _settle(self, method: str, key: str, cancellation: Cancellation) -> Answer | None:
        """Ask until it is settled; return the answer, or None if there is no such schedule."""
        answers: list[Answer] = []
        attempt = partial(self._attempt, method, key, cancellation.report, answers)
        verdict = persist(attempt, cancellation.deadline)
        if verdict is Verdict.SUCCESS:
            self._seen_at = time.monotonic()
            return answers[-1]
        if verdict is Verdict.MISSING:
            return None
        said = cancellation.report.last_said
        raise CancelFailed(f"out of time, after: {said}" if verdict is None else said)

    def _attempt(
        self, method: str, key: str, report: CancelReport, answers: list[Answer], left: float
    ) -> tuple[Verdict, float]:
        """Send one request; return what it means and the seconds that the server said to wait."""
        seconds = left if report.attempts else left * ATTEMPT_SHARE
        try:
            answer = self._send(method, (key,), seconds)
        except requests.RequestException as error:
            report.upstream_statuses.append(None)
            report.last_said = in_words(error, seconds)
            report.in_doubt |= method == "DELETE" and was_sent(error)
            return Verdict.RETRY, 0.0
        answers.append(answer)
        report.upstream_statuses.append(answer.status)
        report.last_said = describe(answer)
        verdict = judge_schedule(answer, key)
        settled = verdict in (Verdict.SUCCESS, Verdict.MISSING)
        report.in_doubt |= method == "DELETE" and not settled and may_have_acted(answer)
        return verdict, seconds_until_reset(answer, time.time())


def _is_of_another(schedule: dict[str, Any], task_id: str) -> bool:
    named = task_ids(schedule.get("externalId"), schedule.get("deduplicationKey"))
    return bool(named - {task_id})
