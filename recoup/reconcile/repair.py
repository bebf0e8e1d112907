"""Mends drift: deletes orphans, stores lost ids, and makes schedules again."""

from collections.abc import Sequence

from recoup import log
from recoup.database.connection import fetch, is_postgres, release
from recoup.database.models import ScheduledAction, TaskDeletion
from recoup.reconcile.drift import Mismatch
from recoup.trigger.inventory import ScheduleInventory
from recoup.trigger.route import is_key_in_url
from recoup.trigger.schedule import Schedule


def rows_may_be_hidden() -> bool:
    """Say whether row level security may hide tasks or marks from our role, without an error."""
    if not is_postgres():
        return False
    [(active,)] = fetch(
        "SELECT row_security_active('scheduled_actions') OR row_security_active('task_deletions')"
    )
    release()
    return bool(active)


def delete_orphan(inventory: ScheduleInventory, schedule: Schedule) -> bool:
    """Delete a schedule, unless a task has it by now; return whether it is gone."""
    with log.record("reconcile", schedule=schedule.id, task=schedule.external_id):
        claims = (ScheduledAction.trigger_schedule_id << schedule.names) | (
            ScheduledAction.id << schedule.task_ids
        )
        claimed = ScheduledAction.select().where(claims).exists()
        release()
        if not claimed:
            inventory.delete(schedule)
        log.note(state="kept" if claimed else "deleted")
    return not claimed


def store_id(mismatch: Mismatch) -> bool:
    """Give a task its schedule's id, unless its row has changed or it is being deleted."""
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


class NotRestored(Exception):
    """A schedule is not there as it was; the text says why."""


def find_foreign(
    inventory: ScheduleInventory, schedules: Sequence[Schedule], environment_type: str | None
) -> Schedule | None:
    """Return one of the schedules that is of another environment than the key, if there is one.

    Deduplication keys are a project's, so that making it would take it away from the other one.
    The key's `environment_type` is not all: each branch of PREVIEW and each person's DEVELOPMENT
    is an environment of its own. What the key lists is of the key's.
    """
    for schedule in schedules:
        if environment_type not in {environment.type for environment in schedule.environments}:
            return schedule
    listed = inventory.newest() if schedules else None
    for schedule in schedules:
        if listed and not listed.environments & schedule.environments:
            return schedule
    return None


def restore(inventory: ScheduleInventory, schedule: Schedule) -> tuple[str, bool]:
    """Make a schedule again, unless it is there; return its id now, and whether that is new.

    Raises:
        NotRestored: there may be, or there is, another one under its key; that is left alone.
    """
    if there := inventory.get(schedule.id):
        return there.id, False
    if not is_key_in_url(schedule.lasting_key):
        raise NotRestored("its key can't be asked for, so it may be there; look in the dashboard")
    there = inventory.get(schedule.lasting_key)
    now = there or inventory.make(schedule)
    if differences := now.differences(schedule):
        raise NotRestored(f"{now.id} has its key, and not its {', '.join(differences)}")
    # One that was made before may have been left on, where something failed before the switch.
    if now.active != schedule.active:
        inventory.switch(now, schedule.active)
    return now.id, there is None
