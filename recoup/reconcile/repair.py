"""Mends drift: deletes orphans, stores lost ids, and makes schedules again."""

from recoup import log
from recoup.database.connection import fetch, is_postgres, release
from recoup.database.models import ScheduledAction, TaskDeletion
from recoup.reconcile.drift import Mismatch
from recoup.trigger.inventory import ScheduleInventory
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


def restore(inventory: ScheduleInventory, schedule: Schedule) -> tuple[str, bool]:
    """Make a schedule again, unless it is there; return its id now, and whether that is new."""
    if there := inventory.get(schedule.id):
        return there.id, False
    there = inventory.get(schedule.lasting_key)
    # One that was made before may not have been switched off; making is good for that, too.
    if there and there.active == schedule.active:
        return there.id, False
    return inventory.make(schedule), there is None
