"""The schedules of one Trigger.dev environment: listed, looked up, deleted, and made again.

It is for commands. They can wait for the rate limit, and must leave most of it to the programs
that share the key. Mirrors trigger.dev's `apps/webapp/app/routes/api.v1.schedules.ts` and
`api.v1.schedules.$scheduleId.ts`. The list is paged by offset, newest first. It is read from a
replica of the database, so it may lag; a look-up by id or deduplication key does not.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeAlias

import requests

from recoup.config import Config
from recoup.http.client import Answer
from recoup.http.deadline import Deadline
from recoup.http.failures import in_words
from recoup.trigger.answers import Verdict, judge, judge_schedule, seconds_until_reset
from recoup.trigger.outcome import LIMIT_IN_WORDS, InventoryFailed, Outcome, Refused, TooLarge, load
from recoup.trigger.route import ATTEMPT_SHARE, SchedulesRoute, is_key_in_url, persist
from recoup.trigger.schedule import SCHEDULE_ID, PageSchema, Schedule, ScheduleSchema

# How many schedules a page has; the smaller, if the larger doesn't fit in `BODY_LIMIT_BYTES`.
PAGE_SIZES = (100, 50, 25, 12, 6, 3, 1)
# Two fifths of the 1,500 requests a minute that all programs with this key share.
SECONDS_BETWEEN_REQUESTS = 0.1
# The rate limit's window is a minute, and others may use up the next windows too.
RATE_LIMIT_PATIENCE_SECONDS = 300
MOST_LISTINGS = 5

# Called with how much is done, and how much there is in all.
Watch: TypeAlias = Callable[[int, int], None]


class ScheduleInventory(SchedulesRoute):
    """A request has `call_seconds`, tries included, not counting waits for the rate limit.

    Each method raises `InventoryFailed` if it can't do what it says.
    """

    def __init__(self, api_url: str, secret_key: str, call_seconds: float, **options: Any) -> None:
        super().__init__(api_url, secret_key, **options)
        self._call_seconds = call_seconds
        self._next_at = time.monotonic()

    @classmethod
    def of(cls, config: Config, **options: Any) -> Self:
        """Return the inventory for these settings."""
        return super().of(config, call_seconds=config.trigger_deadline_seconds, **options)

    def list_all(self, watch: Watch) -> list[Schedule]:
        """Return the schedules of every task.

        An empty list does not prove that there are none: it is also empty while the environment has
        no deployment.
        """
        for _ in range(MOST_LISTINGS):
            schedules = self._list_once(watch)
            if schedules is not None:
                return schedules
        raise InventoryFailed(
            "Trigger.dev's list of schedules kept changing while it was read; try again later"
        )

    def get(self, key: str) -> Schedule | None:
        """Return the schedule of an id or a deduplication key, if there is one.

        Some keys can't be used in a URL; such a schedule is not found by its key.
        """
        if not (SCHEDULE_ID.fullmatch(key) or is_key_in_url(key)):
            return None
        body = self._call("GET", key)
        found: Schedule | None = None if body is None else load(ScheduleSchema, body)
        return found if found and key in found.names else None

    def newest(self) -> Schedule | None:
        """Return the first schedule of the list, if there is one."""
        page = load(PageSchema, self._call("GET", query="?perPage=1"))
        return next(iter(page["data"]), None)

    def delete(self, schedule: Schedule) -> None:
        """Delete a schedule, unless it is gone."""
        self._call("DELETE", schedule.id)

    def make(self, schedule: Schedule) -> Schedule:
        """Make a schedule like this one, under its lasting key, and return it.

        If there is already one under that key, it is changed to be like this one.
        """
        fields = {
            "task": schedule.task,
            "cron": schedule.cron,
            "timezone": schedule.timezone,
            "window": schedule.window,
            "externalId": schedule.external_id,
            "deduplicationKey": schedule.lasting_key,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        made: Schedule = load(ScheduleSchema, self._call("POST", json=given))
        # This doesn't switch on a schedule that existed and was off.
        return made if made.active == schedule.active else self.switch(made, schedule.active)

    def switch(self, schedule: Schedule, active: bool) -> Schedule:
        """Switch a schedule on or off, and return what it is now."""
        body = self._call("POST", schedule.id, "activate" if active else "deactivate")
        if body is None:
            raise InventoryFailed(f"{schedule.id} vanished while it was made; try again")
        switched: Schedule = load(ScheduleSchema, body)
        return switched

    def _list_once(self, watch: Watch) -> list[Schedule] | None:
        """Return all schedules, in pages as large as possible; None if the list changed."""
        for size in PAGE_SIZES:
            with suppress(TooLarge):
                return self._list_in_pages(size, watch)
        raise TooLarge(f"a schedule in Trigger.dev's list is larger than {LIMIT_IN_WORDS}")

    def _list_in_pages(self, size: int, watch: Watch) -> list[Schedule] | None:
        """Return all schedules; None if the list changed meanwhile.

        Pages are cut by position, so after a change a page repeats or skips schedules.
        """
        found: dict[str, Schedule] = {}
        counts = set()
        page = pages = 1
        while page <= pages:
            answer = self._call("GET", query=f"?page={page}&perPage={size}")
            content = load(PageSchema, answer)
            found |= {schedule.id: schedule for schedule in content["data"]}
            pages, count = content["pagination"]["pages"], content["pagination"]["count"]
            counts.add(count)
            watch(len(found), count)
            page += 1
        return list(found.values()) if counts == {len(found)} else None

    def _call(self, method: str, *path: str, **options: Any) -> Any:
        """Send a request until it is settled; return its answer, None if there is no schedule."""
        send = partial(self._send, method, path, **options)
        means = partial(judge_schedule, key=path[0]) if path else judge
        patience = Deadline(RATE_LIMIT_PATIENCE_SECONDS)
        while True:
            outcome = Outcome()
            attempt = partial(self._attempt, send, means, outcome)
            verdict = persist(attempt, Deadline(self._call_seconds))
            if verdict in (Verdict.SUCCESS, Verdict.MISSING):
                return outcome.body
            if not 0 < outcome.wait < patience.left():
                if method == "POST" and verdict is Verdict.REFUSED and outcome.status in (400, 422):
                    raise Refused(outcome.reason)
                raise InventoryFailed(outcome.explain())
            time.sleep(outcome.wait)

    def _attempt(
        self,
        send: Callable[[float], Answer],
        means: Callable[[Answer], Verdict],
        outcome: Outcome,
        left: float,
    ) -> tuple[Verdict, float]:
        self._pace()
        seconds = left * ATTEMPT_SHARE
        try:
            answer = send(seconds)
        except requests.RequestException as error:
            reason = f"Trigger.dev could not be reached ({in_words(error, seconds)})"
            outcome.status, outcome.reason, outcome.wait = None, reason, 0.0
            return Verdict.RETRY, 0.0
        outcome.wait = seconds_until_reset(answer, time.time())
        return outcome.read(answer, means), outcome.wait

    def _pace(self) -> None:
        time.sleep(max(0.0, self._next_at - time.monotonic()))
        self._next_at = time.monotonic() + SECONDS_BETWEEN_REQUESTS
