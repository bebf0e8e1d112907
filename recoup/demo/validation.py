"""What Trigger.dev refuses when it makes or changes a schedule, and in which words.

Mirrors CreateScheduleOptions and UpdateScheduleOptions of packages/core/src/v3/schemas/api.ts,
and apps/webapp/app/v3/services/checkSchedule.server.ts.
"""

import json
import math
import re
from collections.abc import Mapping
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

from recoup.demo.answers import CRASHED, SERVER_ERROR
from recoup.demo.cron import check_cron
from recoup.demo.messages import Answer, json_answer

# The address of the recorded server's own pages.
ORIGIN = "http://127.0.0.1:3900"
PER_PAGE = 100
# Above it, the number of rows to skip is too large for Postgres.
MOST_SKIPPED = 2**63 - 1
OPTIONAL = {"externalId", "timezone", "window"}


class Refused(Exception):
    """The request is refused with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def read_options(body: bytes, required: set[str]) -> dict[str, str]:
    """Return the fields of a body, all of them text; raise `Refused`."""
    try:
        options = json.loads(body)
    except ValueError:
        raise Refused(CRASHED) from None
    if not isinstance(options, dict):
        raise _invalid({"path": [], "message": "Expected object"})
    wanted = required | (OPTIONAL & options.keys())
    wrong = sorted(name for name in wanted if not isinstance(options.get(name), str))
    if wrong:
        raise _invalid(*[{"path": [name], "message": "Expected string"} for name in wrong])
    try:
        _check_window(options.get("window"))
    except ValueError as wrong_window:
        raise _invalid({"path": ["window"], "message": str(wrong_window)}) from None
    return options


def read_page(query: str) -> tuple[int, int]:
    """Return the page that a list's query asks for, and the page's size; raise `Refused`."""
    values = parse_qs(query, keep_blank_values=True)
    page = _read_number("page", values.get("page", ["1"])[-1])
    per_page = min(_read_number("perPage", values.get("perPage", ["20"])[-1]), PER_PAGE)
    if page * per_page > MOST_SKIPPED:
        raise Refused(CRASHED)
    return page, per_page


def check_options(options: Mapping[str, str], tasks: Mapping[str, str]) -> None:
    """Raise `Refused` unless cron, zone and task are valid; *tasks* maps them to their sources."""
    try:
        _check_cron(options["cron"])
        _check_timezone(options.get("timezone"))
        _check_task(options["task"], tasks)
    except ValueError as wrong:
        raise Refused(json_answer(422, {"error": str(wrong)})) from None
    # Postgres can't store text with a NUL.
    if any("\0" in str(value) for value in options.values()):
        raise Refused(SERVER_ERROR)


def _invalid(*issues: Mapping[str, object]) -> Refused:
    return Refused(json_answer(400, {"error": "Invalid request body", "issues": issues}))


def _read_number(name: str, text: str) -> int:
    """Read a number as JavaScript does, for which blank text is 0."""
    try:
        number = float(text.strip() or 0)
    except ValueError:
        number = math.nan
    if not (number.is_integer() and number > 0):
        issues = [{"path": [name], "message": "Expected an integer greater than 0"}]
        raise Refused(json_answer(400, {"error": "Invalid request parameters", "issues": issues}))
    return int(number)


def _check_window(window: str | None) -> None:
    if window is None:
        return
    match = re.fullmatch("(0|[1-9][0-9]*)([mh%])", window)
    if not match:
        raise ValueError(
            'Schedule window must be a whole duration such as "30m" or "2h", '
            'or a percentage such as "30%"'
        )
    amount = int(match[1])
    if match[2] == "%" and amount > 100:
        raise ValueError("Schedule window percentage cannot exceed 100%")
    if amount > {"m": 24 * 60, "h": 24}.get(match[2], amount):
        raise ValueError("Schedule window duration cannot exceed 24 hours")


def _check_cron(cron: str) -> None:
    try:
        check_cron(cron)
    except ValueError as error:
        raise ValueError(f"Invalid cron expression: {error}") from None


def _check_timezone(name: str | None) -> None:
    if not name or name == "UTC":
        return
    try:
        ZoneInfo(name)
    # `ZoneInfo` opens a file, which may be missing, a folder, or a name that it refuses.
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"Invalid IANA timezone: '{name}'. "
            f"View the list of valid timezones at {ORIGIN}/timezones"
        ) from None


def _check_task(task: str, tasks: Mapping[str, str]) -> None:
    if task not in tasks:
        raise ValueError(f"Task with identifier {task} not found in project.")
    if tasks[task] != "SCHEDULED":
        raise ValueError(f"Task with identifier {task} is not a scheduled task.")
