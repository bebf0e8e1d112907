"""The schedules of one Trigger.dev environment: listed, looked up, deleted, and made again.

For commands, which have the time to wait for the rate limit, and must leave most of it to the
programs that share the key. Mirrors trigger.dev's `apps/webapp/app/routes/api.v1.schedules.ts`
and `api.v1.schedules.$scheduleId.ts`: the list is paged by offset, newest first, and read from
a replica of the database, so it may lag; a look-up by id or deduplication key does not.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import requests
from marshmallow import Schema, ValidationError

from recoup.http.client import Answer
from recoup.http.deadline import Deadline
from recoup.http.failures import in_words
from recoup.trigger.answers import Verdict, judge, seconds_until_reset
from recoup.trigger.route import ATTEMPT_SHARE, DOT_SEGMENTS, SchedulesRoute, persist
from recoup.trigger.schedule import PageSchema, Schedule, ScheduleSchema

PAGE_SIZE = 100
# Two in five of the 1,500 requests a minute that all programs with this key have together.
SECONDS_BETWEEN_REQUESTS = 0.1
# The rate limit's window is a minute, and others may use up the next ones too.
RATE_LIMIT_PATIENCE_SECONDS = 300
MOST_LISTINGS = 5
HINTS = {
    401: "check TRIGGER_SECRET_KEY",
    403: "check TRIGGER_SECRET_KEY",
    422: "its plan may allow no more schedules",
    429: "other programs use up the rate limit",
}

# Told how much is done, of how much in all.
Watch: TypeAlias = Callable[[int, int], None]


class InventoryFailed(Exception):
    """Trigger.dev could not be asked, or what it says can't be relied on."""


@dataclass
class _Outcome:
    """What has become of a request; `wait`: seconds until the rate limit has room again."""

    status: int | None = None
    reason: str = "nothing was sent"
    wait: float = 0.0
    body: Any = None

    def explain(self) -> str:
        hint = HINTS.get(self.status or 0, "check TRIGGER_API_URL, or try again later")
        return f"{self.reason}; {hint}"


class ScheduleInventory(SchedulesRoute):
    """A request has `call_seconds`, tries included, and besides waits for the rate limit.

    Each method raises `InventoryFailed` where it can't do what it says.
    """

    def __init__(self, api_url: str, secret_key: str, call_seconds: float, **options: Any) -> None:
        super().__init__(api_url, secret_key, **options)
        self._call_seconds = call_seconds
        self._next_at = time.monotonic()

    def list_all(self, watch: Watch) -> list[Schedule]:
        """Return the schedules of every task.

        None at all is no proof that there are none: the list is empty, too, while the
        environment has no deployment.
        """
        for _ in range(MOST_LISTINGS):
            schedules = self._list_once(watch)
            if schedules is not None:
                return schedules
        raise InventoryFailed(
            "Trigger.dev's list of schedules kept changing while it was read; try again later"
        )

    def get(self, key: str) -> Schedule | None:
        """Return the schedule of an id or a deduplication key, if there is one."""
        body = None if key in DOT_SEGMENTS else self._call("GET", key)
        return None if body is None else _load(ScheduleSchema, body)

    def delete(self, schedule: Schedule) -> None:
        """Delete a schedule, unless it is gone."""
        self._call("DELETE", schedule.id)

    def make(self, schedule: Schedule) -> str:
        """Make a schedule like this one, under its lasting key, and return its id.

        Where there is one under that key, it is changed to be like this one.
        """
        fields = {
            "task": schedule.task,
            "cron": schedule.cron,
            "timezone": schedule.timezone,
            "externalId": schedule.external_id,
            "deduplicationKey": schedule.lasting_key,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        made: Schedule = _load(ScheduleSchema, self._call("POST", json=given))
        if not schedule.active:
            self._call("POST", made.id, "deactivate")
        return made.id

    def _list_once(self, watch: Watch) -> list[Schedule] | None:
        """Return all schedules; None if the list changed meanwhile.

        Pages are cut by position: one then repeats or skips schedules of the one before.
        """
        found: dict[str, Schedule] = {}
        counts = set()
        page = pages = 1
        while page <= pages:
            answer = self._call("GET", query=f"?page={page}&perPage={PAGE_SIZE}")
            content = _load(PageSchema, answer)
            found |= {schedule.id: schedule for schedule in content["data"]}
            pages, count = content["pagination"]["pages"], content["pagination"]["count"]
            counts.add(count)
            watch(len(found), count)
            page += 1
        return list(found.values()) if counts == {len(found)} else None

    def _call(self, method: str, *path: str, **options: Any) -> Any:
        """Send a request until it is settled; return its answer, None if there is no schedule."""
        send = partial(self._send, method, path, **options)
        patience = Deadline(RATE_LIMIT_PATIENCE_SECONDS)
        while True:
            outcome = _Outcome()
            attempt = partial(self._attempt, send, outcome)
            verdict = persist(attempt, Deadline(self._call_seconds))
            if verdict in (Verdict.SUCCESS, Verdict.MISSING):
                return outcome.body
            if not 0 < outcome.wait < patience.left():
                raise InventoryFailed(outcome.explain())
            time.sleep(outcome.wait)

    def _attempt(
        self, send: Callable[[float], Answer], outcome: _Outcome, left: float
    ) -> tuple[Verdict, float]:
        self._pace()
        seconds = left * ATTEMPT_SHARE
        try:
            answer = send(seconds)
        except requests.RequestException as error:
            reason = f"Trigger.dev could not be reached ({in_words(error, seconds)})"
            outcome.status, outcome.reason, outcome.wait = None, reason, 0.0
            return Verdict.RETRY, 0.0
        outcome.status, outcome.reason = answer.status, f"Trigger.dev answered {answer.status}"
        outcome.wait = seconds_until_reset(answer, time.time())
        return _read(answer, outcome), outcome.wait

    def _pace(self) -> None:
        time.sleep(max(0.0, self._next_at - time.monotonic()))
        self._next_at = time.monotonic() + SECONDS_BETWEEN_REQUESTS


def _read(answer: Answer, outcome: _Outcome) -> Verdict:
    """Judge an answer; a success must have come whole."""
    verdict = judge(answer)
    if verdict is not Verdict.SUCCESS:
        return verdict
    try:
        outcome.body = json.loads(answer.body)
    except (ValueError, RecursionError):
        outcome.reason += ", but not with JSON"
        return Verdict.RETRY
    return verdict


def _load(schema: type[Schema], body: Any) -> Any:
    try:
        return schema().load(body)
    except ValidationError as error:
        raise InventoryFailed(
            "Trigger.dev's answer is not understood; check TRIGGER_API_URL"
        ) from error
