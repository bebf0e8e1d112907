"""ScheduleObjects of Trigger.dev: how one is made, who sees it, and how it is shown.

The names are those of packages/core/src/v3/schemas/api.ts of trigger.dev.
"""

import secrets
import string
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

Schedule: TypeAlias = dict[str, Any]
Environment: TypeAlias = dict[str, str]

ENVIRONMENT_TYPES = {"dev": "DEVELOPMENT", "stg": "STAGING", "preview": "PREVIEW"}


def make_environment(key: str, number: int) -> Environment:
    """Return the environment of a secret key; the key contains its type."""
    kind = ENVIRONMENT_TYPES.get(key.removeprefix("tr_").partition("_")[0], "PRODUCTION")
    return {"id": f"env_standin_{number}", "type": kind}


def make_schedule(task: str, environment: Environment, key: str = "") -> Schedule:
    """Return a ScheduleObject.

    Without a key from the caller it has none. The real server makes a random one, which it never
    shows.
    """
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    schedule: Schedule = {
        "id": f"sched_{_random(21)}",
        "type": "IMPERATIVE",
        "task": task,
        "active": True,
        "generator": make_generator("0 9 * * *"),
        "timezone": "UTC",
        # No cron is evaluated here: any instant in the future will do.
        "nextRun": tomorrow.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "environments": [environment],
    }
    return schedule | ({"deduplicationKey": key} if key else {})


def make_generator(cron: str) -> dict[str, str]:
    """Return when a schedule fires, in the API's form."""
    return {"type": "CRON", "expression": cron, "description": f"Cron {cron}"}


def is_seen_in(schedule: Schedule, environment: Environment) -> bool:
    """Return whether a key of the environment finds the schedule."""
    return environment["id"] in [e["id"] for e in schedule.get("environments", [environment])]


def saved(schedule: Schedule) -> Schedule:
    """Return the answer for a schedule that was just made or changed."""
    return {name: value for name, value in schedule.items() if value is not None}


def shown(schedule: Schedule) -> Schedule:
    """Return the answer for a schedule that was looked up: an inactive one has no next run."""
    return saved(schedule) | ({} if schedule.get("active", True) else {"nextRun": None})


def listed(schedule: Schedule) -> Schedule:
    """Return a schedule's entry in the list: it always has the external id."""
    return {"externalId": None} | shown(schedule)


def _random(length: int) -> str:
    alphabet = string.ascii_lowercase + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(length))
