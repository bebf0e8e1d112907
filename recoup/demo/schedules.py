"""Trigger.dev's schedules API in memory: the answer to each request, without the sockets.

Mirrors apps/webapp/app/routes/api.v1.schedules.ts, api.v1.schedules.$scheduleId.ts and
services/authorizationRateLimitMiddleware.server.ts of trigger.dev, for one environment with
imperative schedules only.
"""

import json
import math
import secrets
import string
import threading
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from recoup.demo.messages import HTML, PROBLEM, ROOT, Answer, Request, json_answer

# A ScheduleObject, with the names of packages/core/src/v3/schemas/api.ts of trigger.dev.
Schedule: TypeAlias = dict[str, Any]

SERVER_ERROR = json_answer(500, {"error": "Something went wrong, please try again."})
NOT_FOUND = json_answer(404, {"error": "Schedule not found"})
BAD_KEY = json_answer(401, {"error": "Invalid or Missing API Key"})
NO_KEY = json_answer(
    401,
    {
        "title": "Unauthorized",
        "status": 401,
        "type": "https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/401",
        "detail": "No authorization header provided",
        "error": "No authorization header provided",
    },
    PROBLEM,
)
NO_PAGE = Answer(
    404, b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>", {"content-type": HTML}
)
# The real route says so in the body alone: a DELETE without an id looks like a success.
WRONG_METHOD = json_answer(200, {"status": 405, "body": "Method Not Allowed"})
# What the web framework says of an error that no route caught.
CRASHED = Answer(500, b"Unexpected Server Error", {"content-type": "text/plain"})


class SchedulesAPI:
    """The schedules of one environment, and the answers of the API to its key.

    *schedules* maps an id to its ScheduleObject, oldest first; a test may change it at will.
    While *deployed* is False the list is empty though the schedules exist, as on the real
    server when the environment has no current deployment.
    """

    def __init__(self, secret_key: str) -> None:
        self.secret_key = secret_key
        self.schedules: dict[str, Schedule] = {}
        self.deployed = True
        self._lock = threading.Lock()

    def add(self, task_id: str, **fields: object) -> str:
        """Make the schedule of a task and return its id; *fields* override the ScheduleObject's."""
        schedule = _new_schedule("customer-prompt-task", task_id)
        schedule |= {"externalId": task_id, **fields}
        with self._lock:
            self.schedules[schedule["id"]] = schedule
        return str(schedule["id"])

    def answer(self, request: Request) -> Answer:
        """Do what the request asks, and return the answer of the real server to it."""
        authorization = request.headers.get("authorization")
        if not request.route.startswith("/api/"):
            return NO_PAGE
        if not authorization:
            return NO_KEY
        with self._lock:
            if request.route.rstrip("/") == ROOT:
                return self._collection(request, authorization)
            if request.schedule_id is not None:
                return self._member(request, request.schedule_id, authorization)
            key, _, action = request.route.removeprefix(f"{ROOT}/").partition("/")
            if (request.method, action) == ("POST", "deactivate"):
                return self._deactivate(key, authorization)
        return NO_PAGE

    def _collection(self, request: Request, authorization: str) -> Answer:
        if request.method not in ("GET", "POST"):
            return WRONG_METHOD
        if not self._accepts(authorization):
            return BAD_KEY
        return self._list(request) if request.method == "GET" else self._create(request)

    def _member(self, request: Request, key: str, authorization: str) -> Answer:
        if not self._accepts(authorization):
            return BAD_KEY
        schedule = self._find(key)
        if request.method == "PUT":
            return self._update(request, schedule)
        if schedule is None:
            return NOT_FOUND
        if request.method == "DELETE":
            del self.schedules[schedule["id"]]
            return json_answer(200, {"id": schedule["id"]})
        return json_answer(200, schedule) if request.method == "GET" else CRASHED

    def _deactivate(self, key: str, authorization: str) -> Answer:
        """Mirrors apps/webapp/app/routes/api.v1.schedules.$scheduleId.deactivate.ts."""
        if not self._accepts(authorization):
            return BAD_KEY
        schedule = self._find(key)
        if schedule is None:
            return NOT_FOUND
        schedule["active"] = False
        return json_answer(200, schedule)

    def _accepts(self, authorization: str) -> bool:
        # The real server too takes the key without its "Bearer ".
        return authorization.removeprefix("Bearer ") == self.secret_key

    def _find(self, key: str) -> Schedule | None:
        """Mirrors scheduleWhereClause, apps/webapp/app/models/schedules.server.ts."""
        return self.schedules.get(key) if key.startswith("sched_") else self._find_by_key(key)

    def _find_by_key(self, key: str) -> Schedule | None:
        schedules = list(self.schedules.values())
        return next((s for s in schedules if s.get("deduplicationKey") == key), None)

    def _list(self, request: Request) -> Answer:
        query = parse_qs(request.path.partition("?")[2])
        try:
            page = _positive(query.get("page", ["1"])[-1])
            per_page = min(_positive(query.get("perPage", ["20"])[-1]), 100)
        except ValueError as error:
            issues = [{"message": str(error)}]
            return json_answer(400, {"error": "Invalid request parameters", "issues": issues})
        newest_first = list(reversed(self.schedules.values())) if self.deployed else []
        pagination = {
            "currentPage": page,
            "totalPages": math.ceil(len(newest_first) / per_page),
            "count": len(newest_first),
        }
        data = newest_first[(page - 1) * per_page : page * per_page]
        return json_answer(200, {"data": data, "pagination": pagination})

    def _create(self, request: Request) -> Answer:
        """Make the schedule of a deduplication key, or update the one that has it."""
        body = _parse(request.body, required=("task", "cron", "deduplicationKey"))
        if isinstance(body, Answer):
            return body
        key = body["deduplicationKey"]
        existing = self._find_by_key(key) if key else None
        return self._save(existing or _new_schedule(body["task"], key), body)

    def _update(self, request: Request, schedule: Schedule | None) -> Answer:
        """Update a schedule; where there is none, make a new one with an id and key of its own.

        Mirrors apps/webapp/app/v3/services/upsertTaskSchedule.server.ts of trigger.dev.
        """
        body = _parse(request.body, required=("task", "cron"))
        if isinstance(body, Answer):
            return body
        return self._save(schedule or _new_schedule(body["task"]), body)

    def _save(self, schedule: Schedule, body: dict[str, str]) -> Answer:
        schedule["generator"] = _generator(body["cron"])
        schedule["timezone"] = body.get("timezone", "UTC")
        schedule.pop("externalId", None)
        if body.get("externalId"):
            schedule["externalId"] = body["externalId"]
        self.schedules[schedule["id"]] = schedule
        return json_answer(200, schedule)


def _new_schedule(task: str, key: str = "") -> Schedule:
    """Return a ScheduleObject.

    Without a key of the caller's it has none: the random one that the real server then makes is
    never shown to anyone.
    """
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    schedule: Schedule = {
        "id": f"sched_{_random(21)}",
        "type": "IMPERATIVE",
        "task": task,
        "active": True,
        "generator": _generator("0 9 * * *"),
        "timezone": "UTC",
        # No cron is evaluated here: all that counts is an instant in the future.
        "nextRun": tomorrow.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "environments": [{"id": "env_standin", "type": "PRODUCTION"}],
    }
    return schedule | ({"deduplicationKey": key} if key else {})


def _generator(cron: str) -> dict[str, str]:
    return {"type": "CRON", "expression": cron, "description": f"Cron {cron}"}


def _random(length: int) -> str:
    alphabet = string.ascii_lowercase + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("Number must be greater than 0")
    return number


def _parse(body: bytes, required: tuple[str, ...]) -> dict[str, str] | Answer:
    """Return the body's fields, or the answer that refuses it."""
    try:
        data = json.loads(body)
    except ValueError:
        return CRASHED
    fields = data if isinstance(data, dict) else {}
    wanted = {*required, *({"externalId", "timezone"} & fields.keys())}
    wrong = sorted(name for name in wanted if not isinstance(fields.get(name), str))
    if wrong:
        issues = [{"path": [name], "message": "Expected string"} for name in wrong]
        return json_answer(400, {"error": "Invalid request body", "issues": issues})
    return fields
