"""What an answer of Trigger.dev's schedules API means.

Sources: trigger.dev's `apps/webapp/app/routes/api.v1.schedules.$scheduleId.ts`, its rate limiter
and its client; and its real server's answers.

* `200 {"id": "sched_…"}` to a DELETE names the schedule that was deleted.
* `404 {"error": "Schedule not found"}`: it is gone already, or the secret key belongs to another
  environment. One call can't tell the two apart.
* `422` to a DELETE is any known error of the server's database, also a connection that was lost
  after the delete. It never means that the request was refused.
* `429` has `x-ratelimit-reset` in unix **milliseconds** and no `Retry-After`.
"""

from enum import Enum

from recoup import log
from recoup.http.client import Answer, read_object
from recoup.trigger.schedule import SCHEDULE_ID

# The real server was seen to act 33 s after its caller had gone. After this it no longer will.
SETTLING_SECONDS = 60
RETRIED = (408, 409, 429)
# How much of an error's text is shown.
MOST_CHARACTERS = 200


class Verdict(Enum):
    """What one answer means."""

    SUCCESS = "success"
    MISSING = "missing"
    RETRY = "retry"
    REFUSED = "refused"


def judge(answer: Answer) -> Verdict:
    """Decide what an answer means, as Trigger.dev's own client does for retries.

    Source: `shouldRetry` in trigger.dev's `packages/core/src/v3/apiClient/core.ts`. A 404 of
    another route means a wrong address, and proves nothing.
    """
    if 200 <= answer.status < 300:
        return Verdict.SUCCESS
    if answer.status == 404 and read_object(answer).get("error") == "Schedule not found":
        return Verdict.MISSING
    retried = answer.status in RETRIED or not 200 <= answer.status < 500
    return _advice(answer) or (Verdict.RETRY if retried else Verdict.REFUSED)


def judge_schedule(answer: Answer, key: str) -> Verdict:
    """Decide what the answer to a request for the schedule with this key or id means.

    A success counts only with a schedule's id in it, and of a schedule that was asked for by its id
    only with that: a maintenance page proves nothing.
    """
    verdict = judge(answer)
    if verdict is Verdict.SUCCESS and not _is_of(schedule_id(answer), key):
        return Verdict.RETRY
    if answer.status == 422 and _advice(answer) is None:
        return Verdict.RETRY
    return verdict


def _is_of(found: str | None, key: str) -> bool:
    return found is not None and (found == key or not SCHEDULE_ID.fullmatch(key))


def _advice(answer: Answer) -> Verdict | None:
    """Return what the server says of another try, if anything that is known."""
    advice = answer.headers.get("x-should-retry")
    return {"true": Verdict.RETRY, "false": Verdict.REFUSED}.get(advice or "")


def may_have_acted(answer: Answer) -> bool:
    """Whether a DELETE with this answer, which settles nothing, may have taken effect.

    A proxy may have lost the server's answer, and the server its database's. After an interim
    answer (1xx) the final one is not known. A success in other words may not be Trigger.dev's.
    """
    return answer.status < 300 or answer.status == 422 or answer.status >= 500


def describe(answer: Answer) -> str:
    """Say for an operator in one line what the answer was: the status, and its `error`."""
    said = error_text(answer)
    return f"Trigger.dev answered {answer.status}" + (f": {said}" if said else "")


def error_text(answer: Answer) -> str:
    """Return the `error` of an answer, cut and cleaned; for an operator, never for a caller."""
    said = read_object(answer).get("error")
    if not isinstance(said, str):
        return ""
    printable = "".join(c if c.isprintable() else " " for c in log.mask_keys(said))
    text = " ".join(printable.split())
    cut = text[: MOST_CHARACTERS - 1] + "…" if len(text) > MOST_CHARACTERS else text
    return cut.removesuffix(".")


def schedule_id(answer: Answer) -> str | None:
    """Return the id of the schedule that an answer names."""
    found = read_object(answer).get("id")
    return found if isinstance(found, str) and SCHEDULE_ID.fullmatch(found) else None


def seconds_until_reset(answer: Answer, now: float) -> float:
    """Return how long a rate-limited caller has to wait, `now` in unix seconds.

    0 if the server doesn't say, or if the moment has passed by our clock.
    """
    if answer.status != 429:
        return 0.0
    try:
        return max(0.0, int(answer.headers["x-ratelimit-reset"]) / 1000 - now)
    except (KeyError, ValueError, OverflowError):
        return 0.0
