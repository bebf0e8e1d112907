"""Mends drift: deletes orphans, stores lost ids, and makes schedules again."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from recoup import log
from recoup.database.connection import is_postgres, release
from recoup.database.models import ScheduledAction, TaskDeletion, table_name
from recoup.database.rights import hidden_tables, lacking_rights
from recoup.reconcile.drift import Mismatch, read_tasks
from recoup.trigger.inventory import ScheduleInventory
from recoup.trigger.outcome import Refused
from recoup.trigger.route import is_key_in_url
from recoup.trigger.schedule import Schedule


def rows_may_be_hidden() -> bool:
    """Return whether row level security may silently hide tasks or marks from our role."""
    if not is_postgres():
        return False
    hidden = hidden_tables(ScheduledAction, TaskDeletion)
    release()
    return bool(hidden)


def may_store_ids() -> bool:
    """Return whether our role may write a schedule's id into a task's row."""
    if not is_postgres():
        return True
    lacking = lacking_rights((table_name(ScheduledAction), "trigger_schedule_id", "UPDATE"))
    release()
    return not lacking


def delete_orphan(inventory: ScheduleInventory, schedule: Schedule) -> bool:
    """Delete a schedule, unless a task has it by now; return whether it is gone."""
    with log.record("reconcile", schedule=schedule.id, task=schedule.external_id):
        claimed = bool(owners(schedule))
        if not claimed:
            inventory.delete(schedule)
        log.note(state="kept" if claimed else "deleted")
    return not claimed


def owners(schedule: Schedule) -> set[str]:
    """Return the tasks that have a schedule: those that name it, and those that it names."""
    # What is around a name in a row, only Python strips as a deletion does.
    alike = map(ScheduledAction.trigger_schedule_id.contains, schedule.known_as)
    tasks = read_tasks(reduce(or_, alike, ScheduledAction.id << schedule.task_ids))
    naming = {task.id for task in tasks.values() if task.named in schedule.known_as}
    return naming | (schedule.task_ids & tasks.keys())


def store_id(mismatch: Mismatch) -> bool:
    """Store its schedule's id in a task, unless the row has changed or is being deleted."""
    with log.record(
        "reconcile",
        schedule=mismatch.schedule_id,
        task=mismatch.task_id,
        replaced=mismatch.stored_id,
    ):
        stored = (
            ScheduledAction.update(trigger_schedule_id=mismatch.schedule_id)
            .where(
                ScheduledAction.id == mismatch.task_id,
                ScheduledAction.trigger_schedule_id == mismatch.stored_id,
                ScheduledAction.id.not_in(TaskDeletion.select(TaskDeletion.task)),
            )
            .execute()
        )
        release()
        log.note(state="stored" if stored else "kept")
    return bool(stored)


def is_lost(mismatch: Mismatch) -> bool:
    """Return whether the task still lacks the id; one that is being deleted doesn't need it."""
    task = read_tasks(ScheduledAction.id == mismatch.task_id).get(mismatch.task_id or "")
    return task is not None and not task.marked and task.named != mismatch.schedule_id


class NotRestored(Exception):
    """A schedule is not there as it was; the text says why."""


class EnvironmentUnknown(Exception):
    """The key lists no schedule, so it can't be told whether others belong to its environment."""


def find_foreign(
    inventory: ScheduleInventory, schedules: Sequence[Schedule], environment_type: str | None
) -> Schedule | None:
    """Return one of the schedules that belongs to another environment than the key's, if any.

    Deduplication keys belong to a project, so making it would take it away from that environment.
    The key's `environment_type` does not tell all: each branch of PREVIEW and each person's
    DEVELOPMENT is its own environment. What the key lists belongs to its environment.

    Raises:
        EnvironmentUnknown: they may all be the key's.
    """
    for schedule in schedules:
        if environment_type not in {environment.type for environment in schedule.environments}:
            return schedule
    if not schedules:
        return None
    listed = inventory.newest()
    if listed is None:
        raise EnvironmentUnknown
    strangers = (s for s in schedules if not listed.environments & s.environments)
    return next(strangers, None)


def restore(inventory: ScheduleInventory, schedule: Schedule) -> tuple[str, bool]:
    """Make a schedule again, unless it exists; return its id now, and whether that is new.

    Raises:
        NotRestored: it is refused, or there is, or may be, another one under its key, which is
            left alone.
    """
    if there := inventory.get(schedule.id):
        return there.id, False
    if not is_key_in_url(schedule.lasting_key):
        raise NotRestored("its key can't be asked for, so it may be there; look in the dashboard")
    there = inventory.get(schedule.lasting_key)
    now = there or _make(inventory, schedule)
    if differences := now.differences(schedule):
        raise NotRestored(f"{now.id} has its key, and not its {', '.join(differences)}")
    if schedule.active and not now.active:
        raise NotRestored(f"{now.id} has its key, and is off now")
    # An earlier run may have made it, and failed before switching it off.
    if now.active and not schedule.active:
        inventory.switch(now, active=False)
    return now.id, there is None


def _make(inventory: ScheduleInventory, schedule: Schedule) -> Schedule:
    try:
        return inventory.make(schedule)
    except Refused as error:
        raise NotRestored(str(error)) from error
