"""A schedule of Trigger.dev as an object, read from an answer of its API or from our backup.

Mirrors `ScheduleObject` and `ListSchedulesResult` in trigger.dev's
`packages/core/src/v3/schemas/api.ts`. Fields that are not used here are ignored.
"""

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from marshmallow import EXCLUDE, Schema, fields, post_load, validate

# The form of Trigger.dev's schedule ids.
SCHEDULE_ID = re.compile(r"sched_\w+", re.ASCII)
# By the environment's name in our settings.
ENVIRONMENT_TYPES = {
    "dev": "DEVELOPMENT",
    "staging": "STAGING",
    "prod": "PRODUCTION",
    "preview": "PREVIEW",
}
# Begins the key of a schedule that had none before it was made again; its former id follows.
RESTORED = "restored-"


def named_in(stored: str | None) -> str:
    """Return the id in what a row has stored, which may have space around it; empty: none."""
    return (stored or "").strip()


def task_ids(external_id: Any, deduplication_key: Any) -> set[str]:
    """Return the tasks that a schedule with these two names."""
    ids = set()
    for text in (external_id, deduplication_key):
        try:
            ids.add(str(UUID(text)))
        except (ValueError, TypeError, AttributeError):
            continue
    return ids


class Environment(NamedTuple):
    """An environment of Trigger.dev; `type` is one of `ENVIRONMENT_TYPES`."""

    id: str
    type: str


@dataclass(frozen=True)
class Schedule:
    """`task`: Trigger.dev's task identifier; `raw`: the schedule as Trigger.dev gave it."""

    id: str
    task: str
    cron: str
    timezone: str
    window: str | None
    active: bool
    declarative: bool
    external_id: str | None
    deduplication_key: str | None
    environments: frozenset[Environment]
    raw: dict[str, Any] = field(repr=False)

    @property
    def names(self) -> set[str]:
        """The names by which Trigger.dev finds it."""
        return set(filter(None, (self.id, self.deduplication_key)))

    @property
    def known_as(self) -> set[str]:
        """What a task's row may call it: its names, and the id before it was made again."""
        former = (self.deduplication_key or "").removeprefix(RESTORED)
        return self.names | set(filter(None, [former]))

    @property
    def task_ids(self) -> set[str]:
        """The tasks that it names."""
        return task_ids(self.external_id, self.deduplication_key)

    @property
    def is_shared(self) -> bool:
        """Whether several environments use it; a deletion takes it away from all of them."""
        return len(self.environments) > 1

    def differences(self, other: "Schedule") -> list[str]:
        """Name the fields that differ in another schedule, except id, key and `active`."""
        names = ("task", "cron", "timezone", "window", "external_id", "environments")
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    @property
    def lasting_key(self) -> str:
        """The deduplication key that it has, or gets when it is made again."""
        return self.deduplication_key or f"{RESTORED}{self.id}"


class _Tolerant(Schema):
    class Meta:
        unknown = EXCLUDE


class _Environment(_Tolerant):
    id = fields.String(required=True)
    type = fields.String(required=True)

    @post_load
    def make(self, data: dict[str, str], **kwargs: Any) -> Environment:
        return Environment(**data)


class _Generator(_Tolerant):
    expression = fields.String(required=True)


class ScheduleSchema(_Tolerant):
    """Loads a `Schedule`."""

    id = fields.String(
        required=True, validate=validate.Regexp(SCHEDULE_ID.pattern + r"\Z", re.ASCII)
    )
    type = fields.String(load_default="IMPERATIVE")
    task = fields.String(required=True)
    generator = fields.Nested(_Generator, required=True)
    timezone = fields.String(load_default="UTC")
    window = fields.String(load_default=None, allow_none=True)
    active = fields.Boolean(load_default=True)
    external_id = fields.String(data_key="externalId", load_default=None, allow_none=True)
    deduplication_key = fields.String(
        data_key="deduplicationKey", load_default=None, allow_none=True
    )

    environments = fields.List(fields.Nested(_Environment), load_default=list)

    @post_load(pass_original=True)
    def make(self, data: dict[str, Any], original: dict[str, Any], **kwargs: Any) -> Schedule:
        """Return the object; *original* is what was loaded."""
        cron = data.pop("generator")["expression"]
        declarative = data.pop("type") == "DECLARATIVE"
        environments = frozenset(data.pop("environments"))
        return Schedule(
            cron=cron, declarative=declarative, environments=environments, raw=original, **data
        )


class _Pagination(_Tolerant):
    pages = fields.Integer(data_key="totalPages", required=True)
    count = fields.Integer(required=True)


class PageSchema(_Tolerant):
    """Loads a page of the list: `data`, and `pagination` with `pages` and `count` in all."""

    data = fields.List(fields.Nested(ScheduleSchema), required=True)
    pagination = fields.Nested(_Pagination, required=True)
