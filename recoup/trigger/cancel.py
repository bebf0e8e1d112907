"""The adapter of Trigger.dev's schedules API. Knows neither Flask nor the database.

How the server answers is read off its source, trigger.dev's
`apps/webapp/app/routes/api.v1.schedules.$scheduleId.ts`, and its rate limiter:

* `{id}` that begins with `sched_` is a schedule's id; anything else is a deduplication key,
  and Recoup creates each schedule with its task's UUID as the key.
* `404 {"error": "Schedule not found"}`: gone already, or the secret key is of another
  environment; one call can't tell the two apart.
* `429` has `x-ratelimit-reset` in unix **milliseconds** and no `Retry-After`.
"""

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import quote

import requests
import urllib3

from recoup import log
from recoup.http.client import Answer, Client
from recoup.http.deadline import Deadline

ROUTE = "/api/v1/schedules"
FIRST_BACKOFF_SECONDS = 0.1
# A first attempt that hangs must leave time for a second.
ATTEMPT_SHARE = 0.5
# Encoded or not, these name no schedule in a URL but the folder, and the one above.
DOT_SEGMENTS = (".", "..")


class Verdict(Enum):
    """What one answer to a cancel means."""

    CANCELLED = "cancelled"
    MISSING = "missing"
    RETRY = "retry"
    REFUSED = "refused"


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


class SchedulesRoute:
    """The schedules route of one Trigger.dev environment. Threads may share it."""

    def __init__(
        self, api_url: str, secret_key: str, *, pool_size: int = 10, proxy_url: str | None = None
    ) -> None:
        self._client = Client(
            api_url,
            headers={"Authorization": f"Bearer {secret_key}"},
            pool_size=pool_size,
            proxy_url=proxy_url,
        )

    def look(self, seconds: float) -> Answer:
        """Read the list's first schedule, which takes a key that is right and changes nothing.

        Raises:
            requests.RequestException: no answer came.
        """
        return self._send("GET", (), seconds, query="?perPage=1")

    def _send(
        self, method: str, path: tuple[str, ...], seconds: float, query: str = "", json: Any = None
    ) -> Answer:
        """Send one request to what `path` names below the route."""
        below = "".join(f"/{quote(part, safe='')}" for part in path)
        request_id = log.noted("request_id")
        headers = {"X-Request-ID": request_id} if request_id else None
        return self._client.send(method, ROUTE + below + query, seconds, headers=headers, json=json)


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
            report.in_doubt |= _was_sent(error)
            return Verdict.RETRY, 0.0
        report.upstream_statuses.append(answer.status)
        report.reason = f"Trigger.dev answered {answer.status}"
        report.in_doubt |= _may_have_acted(answer.status)
        return judge(answer), seconds_until_reset(answer, time.time())


def persist(
    attempt: Callable[[float], tuple[Verdict, float]], deadline: Deadline
) -> Verdict | None:
    """Attempt, with the seconds that are left, until it is settled or another wait is too long.

    An attempt returns what its answer means, and the seconds that the server said to wait.
    Returns the last verdict; None if the deadline passed between two attempts.
    """
    backoff = FIRST_BACKOFF_SECONDS
    while (left := deadline.left()) > 0:
        verdict, wait = attempt(left)
        if verdict is not Verdict.RETRY:
            return verdict
        wait = max(wait, random.uniform(backoff / 2, backoff))
        if wait >= deadline.left():
            return verdict
        time.sleep(wait)
        backoff *= 2
    return None


def judge(answer: Answer) -> Verdict:
    """Decide what an answer to a DELETE means, as Trigger.dev's own client does for retries.

    Source: `shouldRetry` in trigger.dev's `packages/core/src/v3/apiClient/core.ts`. A 404 that
    isn't the schedules route's own is a wrong address, and no proof of anything.
    """
    if 200 <= answer.status < 300:
        return Verdict.CANCELLED
    if answer.status == 404 and _says_schedule_not_found(answer.body):
        return Verdict.MISSING
    advice = answer.headers.get("x-should-retry")
    if advice in ("true", "false"):
        return Verdict.RETRY if advice == "true" else Verdict.REFUSED
    if answer.status in (408, 409, 429) or _may_have_acted(answer.status):
        return Verdict.RETRY
    return Verdict.REFUSED


def _may_have_acted(status: int) -> bool:
    """Whether a failure with this status may come after the deed.

    A proxy may have lost sight of the server, and the server of what it has committed; and what
    follows an interim answer (1xx) is not known.
    """
    return status < 200 or status >= 500


def seconds_until_reset(answer: Answer, now: float) -> float:
    """Return how long a rate-limited caller has to wait, `now` in unix seconds.

    0 where the server doesn't say, or the moment has passed by our clock.
    """
    if answer.status != 429:
        return 0.0
    try:
        return max(0.0, int(answer.headers["x-ratelimit-reset"]) / 1000 - now)
    except (KeyError, ValueError, OverflowError):
        return 0.0


def _says_schedule_not_found(body: bytes) -> bool:
    try:
        return bool(json.loads(body)["error"] == "Schedule not found")
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _was_sent(error: requests.RequestException) -> bool:
    """Whether the request may have reached the server before `error`."""
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    never_connected = (
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
        urllib3.exceptions.ProxyError,
        urllib3.exceptions.SSLError,
    )
    return not isinstance(reason, never_connected)
