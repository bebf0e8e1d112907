"""What an answer of Trigger.dev's schedules API means.

Read off its source, trigger.dev's `apps/webapp/app/routes/api.v1.schedules.$scheduleId.ts`, and
its rate limiter:

* `404 {"error": "Schedule not found"}`: gone already, or the secret key is of another
  environment; one call can't tell the two apart.
* `429` has `x-ratelimit-reset` in unix **milliseconds** and no `Retry-After`.
"""

import json
from enum import Enum

import requests
import urllib3

from recoup.http.client import Answer


class Verdict(Enum):
    """What one answer to a cancel means."""

    CANCELLED = "cancelled"
    MISSING = "missing"
    RETRY = "retry"
    REFUSED = "refused"


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
    if answer.status in (408, 409, 429) or may_have_acted(answer.status):
        return Verdict.RETRY
    return Verdict.REFUSED


def may_have_acted(status: int) -> bool:
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


def was_sent(error: requests.RequestException) -> bool:
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
