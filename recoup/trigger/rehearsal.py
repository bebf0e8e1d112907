"""A rehearsal at Trigger.dev: schedules of its own are made, looked up and cancelled.

It shows whether the server answers as a deletion relies on. Each request is sent once, and the
rehearsal stops at the first answer that differs. Whatever happens, the schedules are deleted,
until the server says that they are gone. They are deleted again later, if the server may still
act on a request to make one. They are switched off at once, and would fire half a year from now.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import requests

from recoup.http.client import Answer, read_object
from recoup.http.deadline import Deadline
from recoup.http.failures import in_words, was_sent
from recoup.trigger.answers import (
    SETTLING_SECONDS,
    Verdict,
    error_text,
    judge,
    judge_schedule,
    may_have_acted,
    schedule_id,
    seconds_until_reset,
)
from recoup.trigger.route import SchedulesRoute, persist

# The rate limit's window is a minute.
CLEAR_SECONDS = 90.0

# Called for each step with "ok", "note" or "failed", and what was seen.
Tell: TypeAlias = Callable[[Literal["ok", "note", "failed"], str], None]


class Differs(Exception):
    """The server does not answer as we rely on; the step was shown."""


@dataclass
class _Begun:
    """A schedule that may be there; `late`: it may still come to be. It is also its external id."""

    key: str = field(default_factory=lambda: f"recoup-rehearsal-{uuid4()}")
    id: str | None = None
    late: bool = True

    def names(self) -> dict[str, str]:
        return {"key": self.key} | ({"id": self.id} if self.id else {})


class Rehearsal(SchedulesRoute):
    """One rehearsal with schedules of the task `task`; each request has `call_seconds`."""

    def __init__(
        self,
        api_url: str,
        secret_key: str,
        *,
        task: str,
        call_seconds: float,
        tell: Tell,
        **options: Any,
    ) -> None:
        super().__init__(api_url, secret_key, **options)
        self._task = task
        self._call_seconds = call_seconds
        self._tell = tell
        self._begun: _Begun | None = None

    def run(self) -> bool:
        """Return whether the server answered as we rely on, and nothing is left there."""
        try:
            for name in ("key", "id"):
                self._begun = _Begun()
                self._rehearse(self._begun, name)
                self._begun = None
        except Differs:
            return False
        finally:
            if self._begun:
                self._clear(self._begun)
        return True

    def _rehearse(self, begun: _Begun, name: str) -> None:
        """Make a schedule, and cancel it twice by its key or its id."""
        about: dict[str, Any] = {"externalId": begun.key, "deduplicationKey": begun.key}
        begun.id = self._make(begun, about)
        about |= {"id": begun.id, "active": False}
        self._see("switch it off", about, "POST", begun.id, "deactivate")
        names = begun.names()
        for each, value in names.items():
            self._see(f"look it up by its {each}", about, "GET", value)
        self._see(f"cancel it by its {name}", {"id": begun.id}, "DELETE", names[name])
        self._see(f"cancel it by its {name} again", None, "DELETE", names[name])
        for each, value in names.items():
            self._see(f"look it up by its {each}", None, "GET", value)

    def _make(self, begun: _Begun, about: dict[str, Any]) -> str:
        """Make a schedule and return its id, or note that it may have been made."""
        body = {"task": self._task, "cron": _half_a_year_from_now(), **about}
        step = f"make {begun.key}"
        try:
            answer = self._send("POST", (), self._call_seconds, json=body)
        except requests.RequestException as error:
            self._begun = begun if was_sent(error) else None
            raise self._differs(step, in_words(error, self._call_seconds)) from error
        # Another's answer would have another's schedule deleted at the end.
        begun.id = schedule_id(answer) if _is_as_expected(answer, about) else None
        begun.late = begun.id is None and answer.status != 422
        self._begun = begun if may_have_acted(answer) else None
        self._check(step, about, answer)
        return str(begun.id)

    def _see(self, step: str, expected: dict[str, Any] | None, method: str, *path: str) -> None:
        """Send a request and see what is expected of a schedule; None: that there is none."""
        try:
            answer = self._send(method, path, self._call_seconds)
        except requests.RequestException as error:
            raise self._differs(step, in_words(error, self._call_seconds)) from error
        self._check(step, expected, answer)

    def _check(self, step: str, expected: dict[str, Any] | None, answer: Answer) -> None:
        saw = f"{answer.status} {schedule_id(answer) or error_text(answer) or 'in other words'}"
        if not _is_as_expected(answer, expected):
            raise self._differs(step, f"{saw}; relied on is {_describe(expected)}")
        self._tell("ok", f"{step}: {saw}")

    def _differs(self, step: str, saw: str) -> Differs:
        self._tell("failed", f"{step}: {saw}")
        return Differs(step)

    def _clear(self, begun: _Begun) -> None:
        """Delete what may exist until it is gone, and tell whether it is."""
        gone = False
        try:
            gone = self._delete(begun)
            if gone and begun.late:
                self._tell("note", f"it may still be made, so look again in {SETTLING_SECONDS} s")
                time.sleep(SETTLING_SECONDS)
                gone = self._delete(begun)
        finally:
            if gone:
                self._tell("note", "nothing is left")
            else:
                self._tell("failed", f"{begun.key} may be left: delete it in the dashboard")

    def _delete(self, begun: _Begun) -> bool:
        """Delete a schedule by all its names; return whether it is gone."""
        attempts = [partial(self._attempt_to_delete, name) for name in begun.names().values()]
        verdicts = [persist(attempt, Deadline(CLEAR_SECONDS)) for attempt in attempts]
        return verdicts == [Verdict.MISSING] * len(verdicts)

    def _attempt_to_delete(self, name: str, left: float) -> tuple[Verdict, float]:
        """Delete, and accept only that it is gone."""
        try:
            answer = self._send("DELETE", (name,), min(left, self._call_seconds))
        except requests.RequestException:
            return Verdict.RETRY, 0.0
        verdict = judge_schedule(answer, name)
        again = Verdict.RETRY if verdict is Verdict.SUCCESS else verdict
        return again, seconds_until_reset(answer, time.time())


def _half_a_year_from_now() -> str:
    month = datetime.now(UTC).month
    return f"0 0 1 {(month + 5) % 12 + 1} *"


def _describe(expected: dict[str, Any] | None) -> str:
    if expected is None:
        return "404 Schedule not found"
    return "200 with " + ", ".join(f"{name} {value}" for name, value in expected.items())


def _is_as_expected(answer: Answer, expected: dict[str, Any] | None) -> bool:
    if expected is None:
        return judge(answer) is Verdict.MISSING
    schedule = read_object(answer)
    found = answer.status == 200 and schedule_id(answer) is not None
    return found and all(schedule.get(name) == value for name, value in expected.items())
