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
    """Return the environment of a secret key; its type stands in the key."""
    kind = ENVIRONMENT_TYPES.get(key.removeprefix("tr_").partition("_")[0], "PRODUCTION")
    return {"id": f"env_standin_{number}", "type": kind}


def make_schedule(task: str, environment: Environment, key: str = "") -> Schedule:
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
        "generator": make_generator("0 9 * * *"),
        "timezone": "UTC",
        # No cron is evaluated here: all that counts is an instant in the future.
        "nextRun": tomorrow.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "environments": [environment],
    }
    return schedule | ({"deduplicationKey": key} if key else {})


def make_generator(cron: str) -> dict[str, str]:
    """Return when a schedule fires, as the API tells it."""
    return {"type": "CRON", "expression": cron, "description": f"Cron {cron}"}


def is_seen_in(schedule: Schedule, environment: Environment) -> bool:
    """Return whether a key of the environment finds the schedule at all."""
    return environment["id"] in [e["id"] for e in schedule.get("environments", [environment])]


def saved(schedule: Schedule) -> Schedule:
    """Return what is told of a schedule that was just made or changed."""
    return {name: value for name, value in schedule.items() if value is not None}


def shown(schedule: Schedule) -> Schedule:
    """Return what is told of a schedule that was asked for: an inactive one has no next run."""
    return saved(schedule) | ({} if schedule.get("active", True) else {"nextRun": None})


def listed(schedule: Schedule) -> Schedule:
    """Return what the list tells of a schedule: it always names the external id."""
    return {"externalId": None} | shown(schedule)


def _random(length: int) -> str:
    alphabet = string.ascii_lowercase + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(length))
