"""Finds where tasks and schedules have drifted apart.

Other programs change both all the time, so nothing is believed at first sight. Schedules are
listed first, and tasks after them: a task is made before its schedule, so each listed schedule
had its task by then. What looks like drift is checked again after a pause, one by one. Only what
is the same both times is drift. A marked task is being deleted and never drift.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias, cast

import peewee

from recoup.database.connection import release
from recoup.database.models import ScheduledAction, TaskDeletion
from recoup.trigger.inventory import ScheduleInventory, Watch
from recoup.trigger.outcome import InventoryFailed
from recoup.trigger.schedule import Schedule, named_in

# By then a program that had made a task's row has also made its schedule.
PAUSE_SECONDS = 5.0


class Task(NamedTuple):
    """A task's row; `marked`: it is being deleted."""

    id: str
    schedule_id: str | None
    enabled: bool
    marked: bool

    @property
    def named(self) -> str:
        """The schedule that the row names, as its deletion reads it; empty: none."""
        return named_in(self.schedule_id)


class Mismatch(NamedTuple):
    """A schedule, a task, or both, that don't match. An orphan's task is its external id.

    `stored_id`: for a lost id, what the task's row has instead.
    """

    schedule_id: str | None
    task_id: str | None
    stored_id: str | None = None


# Shows the progress of the work that the label names.
Progress: TypeAlias = Callable[[str], AbstractContextManager[Watch]]

# The mismatches of each of `KINDS`.
Drift: TypeAlias = dict[str, list[Mismatch]]

KINDS = ("orphans", "dead_tasks", "lost_ids", "duplicates")


def find_drift(
    inventory: ScheduleInventory, task_identifier: str, progress: Progress
) -> tuple[Drift, dict[str, Schedule]]:
    """Return the drift of one Trigger.dev task's schedules, and these schedules by their ids.

    Raises:
        InventoryFailed: Trigger.dev can't tell, or lists no schedule at all.
        peewee.PeeweeException: the database can't tell.
    """
    with progress("Comparing") as watch:
        schedules = inventory.list_all(watch)
    listed = {s.id: s for s in schedules if s.task == task_identifier and not s.declarative}
    if not listed:
        raise InventoryFailed(
            f"Trigger.dev lists no schedule of {task_identifier}, which proves nothing: the list "
            "is empty too while the environment has no deployment; check TRIGGER_SECRET_KEY and "
            "TRIGGER_TASK_IDENTIFIER"
        )
    drift = compare(listed.values(), read_tasks())
    if any(drift.values()):
        with progress(f"Looking again after {PAUSE_SECONDS:.0f} s") as watch:
            time.sleep(PAUSE_SECONDS)
            found = _look_again(inventory, drift, watch)
        again = {kind: set(mismatches) for kind, mismatches in found.items()}
        drift = {kind: [m for m in drift[kind] if m in again[kind]] for kind in KINDS}
    return drift, listed


def compare(schedules: Iterable[Schedule], tasks: Mapping[str, Task]) -> Drift:
    """Return the mismatches; `tasks` maps ids to tasks."""
    by_id = {schedule.id: schedule for schedule in schedules}
    by_name = {name: schedule for schedule in by_id.values() for name in schedule.known_as} | by_id
    named = {task.named for task in tasks.values()}
    of_task: dict[str, dict[str, Schedule]] = defaultdict(dict)
    drift: Drift = {kind: [] for kind in KINDS}
    for schedule in by_id.values():
        owners = schedule.task_ids & tasks.keys()
        for task_id in owners:
            of_task[task_id][schedule.id] = schedule
        if not owners and not schedule.known_as & named:
            drift["orphans"].append(Mismatch(schedule.id, schedule.external_id))
    for task in tasks.values():
        own = of_task[task.id]
        if stored := by_name.get(task.named):
            own[stored.id] = stored
        if not task.marked:
            _compare_task(task, own, named, drift)
    return drift


def _compare_task(task: Task, own: Mapping[str, Schedule], named: Set[str], drift: Drift) -> None:
    """Add what is wrong with a task; `own` are its schedules, `named` what all tasks name."""
    kept = _kept(task, own)
    if task.enabled and not own:
        drift["dead_tasks"].append(Mismatch(task.named or None, task.id))
    # If another task names it, it is not lost: this task's deletion would cancel it.
    if kept and not own[kept].names & named:
        drift["lost_ids"].append(Mismatch(kept, task.id, task.schedule_id))
    if len(own) > 1:
        drift["duplicates"] += [Mismatch(id_, task.id) for id_ in own if id_ != kept]


def _kept(task: Task, own: Mapping[str, Schedule]) -> str | None:
    """Return the one of its schedules to keep; None if that is not known.

    It is the one that the task's deletion would cancel, or else the only one.
    """
    stored = [s.id for s in own.values() if task.named in s.names]
    keyed = [s.id for s in own.values() if s.deduplication_key == task.id]
    candidates = stored or keyed or list(own)
    return candidates[0] if len(candidates) == 1 else None


def _look_again(inventory: ScheduleInventory, suspects: Drift, watch: Watch) -> Drift:
    """Compare again, with only the suspects' schedules; all other tasks then look dead."""
    tasks = read_tasks()
    mismatches = [mismatch for kind in suspects.values() for mismatch in kind]
    keys = {mismatch.schedule_id for mismatch in mismatches}
    for mismatch in mismatches:
        if task := tasks.get(mismatch.task_id or ""):
            keys |= {task.id, task.named}
    wanted = list(filter(None, keys))
    found = []
    for done, key in enumerate(wanted, 1):
        found.append(inventory.get(key))
        watch(done, len(wanted))
    return compare(filter(None, found), tasks)


def read_tasks(condition: peewee.Expression | bool = True) -> dict[str, Task]:
    """Return every task that meets the condition by its id."""
    query = (
        ScheduledAction.select(
            ScheduledAction.id,
            ScheduledAction.trigger_schedule_id,
            ScheduledAction.enabled,
            TaskDeletion.task.is_null(False),
        )
        .join(TaskDeletion, peewee.JOIN.LEFT_OUTER)
        .where(condition)
        .tuples()
    )
    rows = cast(Iterable[tuple[Any, ...]], query)
    tasks = {
        str(id_): Task(str(id_), schedule_id, bool(enabled), bool(marked))
        for id_, schedule_id, enabled, marked in rows
    }
    release()
    return tasks
