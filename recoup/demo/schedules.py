"""Trigger.dev's schedules API in memory: the answer to each request, without the sockets.

Mirrors apps/webapp/app/routes/api.v1.schedules.ts and api.v1.schedules.$scheduleId.ts of
trigger.dev, with .activate.ts and .deactivate.ts below the latter, for one project with
imperative schedules only.
"""

import math
import threading
from collections.abc import Iterable

from recoup.demo import answers
from recoup.demo.messages import ROOT, Answer, Request, decode, decode_key, json_answer
from recoup.demo.middleware import respond
from recoup.demo.objects import (
    Environment,
    Schedule,
    is_seen_in,
    listed,
    make_environment,
    make_generator,
    make_schedule,
    saved,
    shown,
)
from recoup.demo.validation import Refused, check_options, read_options, read_page

# The identifier of each task that is deployed, and what triggers it.
TASKS = {
    "customer-prompt-task": "SCHEDULED",
    "other-task": "SCHEDULED",
    "plain-task": "STANDARD",
}
# The framework calls a route's loader for all of these.
READS = ("GET", "HEAD", "OPTIONS")


class SchedulesAPI:
    """The schedules of one project, and the answers of the API to its keys.

    *schedules* maps an id to its ScheduleObject, oldest first; a test may change it at will. `add`
    makes schedules in the environment of *secret_key*. Each of *other_keys* belongs to another
    environment, which sees none of them: every id is unknown there, and the list is empty. But
    deduplication keys belong to the project: a POST moves a schedule with that key over. While
    *deployed* is False the list is empty though the schedules exist, as on the real server when
    the environment has no current deployment.
    """

    def __init__(self, secret_key: str, other_keys: Iterable[str] = ()) -> None:
        self.secret_key = secret_key
        self.other_keys = tuple(other_keys)
        self.tasks = dict(TASKS)
        self.schedules: dict[str, Schedule] = {}
        self.deployed = True
        self._lock = threading.Lock()

    def add(self, task_id: str, **fields: object) -> str:
        """Make the schedule of a task and return its id; *fields* override the ScheduleObject's."""
        environment = make_environment(self.secret_key, 0)
        schedule = make_schedule("customer-prompt-task", environment, task_id)
        schedule |= {"externalId": task_id, **fields}
        with self._lock:
            self.schedules[schedule["id"]] = schedule
        return str(schedule["id"])

    def answer(self, request: Request) -> Answer:
        """Do what the request asks, and return the answer of the real server to it."""
        return respond(request, self._routed)

    def _routed(self, request: Request) -> Answer:
        route = request.route.rstrip("/")
        try:
            decode(route)
        except ValueError:
            return answers.BAD_PATH
        key, _, action = route.removeprefix(f"{ROOT}/").partition("/")
        try:
            with self._lock:
                if route == ROOT:
                    return self._collection(request)
                if key and not action:
                    return self._member(request, decode_key(key))
                if key and action in ("activate", "deactivate"):
                    return self._switch(request, decode_key(key), action == "activate")
        except Refused as refused:
            return refused.answer
        return answers.NO_PAGE

    def _collection(self, request: Request) -> Answer:
        if request.method in READS:
            return self._list(request, self._environment(request))
        if request.method == "POST":
            return self._create(request, self._environment(request))
        return answers.WRONG_METHOD

    def _member(self, request: Request, key: str) -> Answer:
        environment = self._environment(request)
        if "\0" in key:
            return answers.CRASHED
        schedule = self._find(key, environment)
        if request.method == "PUT":
            return self._update(request, schedule, environment)
        if schedule is None:
            return answers.NOT_FOUND
        if request.method == "DELETE":
            del self.schedules[schedule["id"]]
            return json_answer(200, {"id": schedule["id"]})
        return json_answer(200, shown(schedule)) if request.method in READS else answers.CRASHED

    def _switch(self, request: Request, key: str, active: bool) -> Answer:
        if request.method in READS:
            return answers.NO_LOADER
        if request.method != "POST":
            return answers.WRONG_METHOD
        schedule = self._find(key, self._environment(request))
        if schedule is None:
            return answers.NOT_FOUND
        schedule["active"] = active
        return json_answer(200, shown(schedule))

    def _environment(self, request: Request) -> Environment:
        """Return the environment of the request's key; raise `Refused` if it has none."""
        # The real server also accepts the key without "Bearer ".
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        keys = [self.secret_key, *self.other_keys]
        lacks_branch = key.startswith("tr_preview_") and not request.headers.get("x-trigger-branch")
        if key not in keys or lacks_branch:
            raise Refused(answers.BAD_KEY)
        return make_environment(key, keys.index(key))

    def _find(self, key: str, environment: Environment) -> Schedule | None:
        """Mirrors scheduleWhereClause, apps/webapp/app/models/schedules.server.ts."""
        is_id = key.startswith("sched_")
        schedule = self.schedules.get(key) if is_id else self._find_by_key(key)
        return schedule if schedule and is_seen_in(schedule, environment) else None

    def _find_by_key(self, key: str) -> Schedule | None:
        schedules = list(self.schedules.values())
        return next((s for s in schedules if s.get("deduplicationKey") == key), None)

    def _list(self, request: Request, environment: Environment) -> Answer:
        page, per_page = read_page(request.path.partition("?")[2])
        seen = [s for s in self.schedules.values() if is_seen_in(s, environment)]
        newest_first = seen[::-1] if self.deployed else []
        pagination = {
            "currentPage": page,
            "totalPages": math.ceil(len(newest_first) / per_page) if self.deployed else 1,
            "count": len(newest_first),
        }
        data = [listed(s) for s in newest_first[(page - 1) * per_page : page * per_page]]
        return json_answer(200, {"data": data, "pagination": pagination})

    def _create(self, request: Request, environment: Environment) -> Answer:
        """Make a schedule with a deduplication key, or update the one that has it."""
        options = read_options(request.body, {"task", "cron", "deduplicationKey"})
        check_options(options, self.tasks)
        key = options["deduplicationKey"]
        existing = self._find_by_key(key) if key else None
        schedule = existing or make_schedule(options["task"], environment, key)
        return self._save(schedule, options, environment)

    def _update(
        self, request: Request, schedule: Schedule | None, environment: Environment
    ) -> Answer:
        """Update a schedule; if there is none, make one with a new id and key."""
        options = read_options(request.body, {"task", "cron"})
        check_options(options, self.tasks)
        schedule = schedule or make_schedule(options["task"], environment)
        return self._save(schedule, options, environment)

    def _save(
        self, schedule: Schedule, options: dict[str, str], environment: Environment
    ) -> Answer:
        """Mirrors apps/webapp/app/v3/services/upsertTaskSchedule.server.ts: the task stays."""
        for name in ("externalId", "window"):
            schedule.pop(name, None)
        schedule |= {name: options[name] for name in ("externalId", "window") if options.get(name)}
        schedule["generator"] = make_generator(options["cron"])
        schedule["timezone"] = options.get("timezone") or "UTC"
        schedule["environments"] = [environment]
        self.schedules[schedule["id"]] = schedule
        return json_answer(200, saved(schedule))
