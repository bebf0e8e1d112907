"""What is explored: all that matters at one moment, as a value. Instants are no more than over."""

from typing import Any, NamedTuple

from recoup.database.models import ScheduledAction, column_names

TASK = "00000000-0000-0000-0000-000000000001"
OTHER_TASK = "00000000-0000-0000-0000-000000000002"
FOREIGN = "sched_foreign"
# What a schedule is found by besides its id, and whose it says it is.
SCHEDULES = {
    "sched_first": {"deduplicationKey": TASK, "externalId": TASK},
    "sched_host": {"deduplicationKey": "of-the-host", "externalId": TASK},
    "sched_again": {"deduplicationKey": TASK, "externalId": TASK},
    "sched_stray": {"deduplicationKey": TASK, "externalId": TASK},
    FOREIGN: {"deduplicationKey": OTHER_TASK, "externalId": OTHER_TASK},
}
COLUMNS = column_names(ScheduledAction)

Row = tuple[Any, ...]


class Broken(Exception):
    """A promise does not hold."""


class Mark(NamedTuple):
    """`leased`: its lease runs; `doubt`: None, or "young" or "old"."""

    token: str
    leased: bool
    doubt: str | None


class Orphan(NamedTuple):
    """What the guard recorded; `due`: its time has come."""

    id: int
    schedule: str | None
    attempts: int
    due: bool


class Collector(NamedTuple):
    """Whoever collects orphans; `leased`: the lease runs."""

    token: str
    leased: bool


class Tables(NamedTuple):
    """The task's row, to the last column, its mark, and what the guard has of it."""

    row: Row | None
    mark: Mark | None = None
    orphans: tuple[Orphan, ...] = ()
    collector: Collector | None = None

    @property
    def named(self) -> str | None:
        """The schedule that the row names."""
        return self.row[COLUMNS.index("trigger_schedule_id")] if self.row else None


class State(NamedTuple):
    """All that matters at one moment.

    `actors`: where each is, None for one that has ended.
    `alive`: the schedules at Trigger.dev; `owned`: those that have to go with the row; `strays`:
    those that were made for a row that names none; `killed`: those that we cancelled, each with
    the actor that did, while it still works.
    `flying`: requests, and `late`: statements, that were given up and may act yet.
    `others`: what another program may do yet; `taken`: it has deleted the row; `remade`: it has
    made another.
    """

    tables: Tables
    actors: tuple[Any, ...]
    alive: frozenset[str]
    owned: frozenset[str]
    others: tuple[str, ...]
    faults: int
    crashes: int
    leases: int
    ages: int
    strays: frozenset[str] = frozenset()
    killed: frozenset[tuple[str, str]] = frozenset()
    flying: tuple[tuple[str, str], ...] = ()
    late: tuple[Any, ...] = ()
    taken: bool = False
    remade: bool = False


def is_own(schedule: str) -> bool:
    """Whether a schedule says that it is the task's."""
    return SCHEDULES[schedule]["externalId"] == TASK


def is_keyed(schedule: str) -> bool:
    """Whether the task's key finds it."""
    return SCHEDULES[schedule]["deduplicationKey"] == TASK


def make_row(task_id: str, schedule: str | None) -> Row:
    """Return a task's row."""
    values = {"id": task_id, "enabled": 1, "trigger_schedule_id": schedule}
    return tuple(values.get(name, name) for name in COLUMNS)


def pass_time(tables: Tables) -> Tables:
    """Return what is there when all leases have run out, and all is old and due."""
    mark, collector = tables.mark, tables.collector
    return Tables(
        tables.row,
        mark and mark._replace(leased=False, doubt=mark.doubt and "old"),
        tuple(orphan._replace(due=True) for orphan in tables.orphans),
        collector and collector._replace(leased=False),
    )
