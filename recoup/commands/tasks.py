"""The commands `recoup tasks …`."""

import sys
from uuid import UUID

import click

from recoup import log
from recoup.commands.group import Group, services
from recoup.commands.reconcile import reconcile_tasks, restore_schedules
from recoup.database.statements import count_doubts, count_marks
from recoup.deletion.sweep import sweep

# A number that is no limit.
EVERY = 1_000_000

tasks = Group("tasks", help="Tasks and their deletions.")


@tasks.command("delete")
@click.argument("task_id", type=click.UUID)
def delete_task(task_id: UUID) -> None:
    """Delete a task and its schedule.

    The same deletion as the route's, but of any account's task.
    """
    with log.record("command", command="tasks delete") as notes:
        services().deleter.delete(str(task_id), None)
    click.echo(f"Task {task_id} is deleted.")
    if notes["missing"]:
        click.echo("Trigger.dev knew no schedule of it; see `recoup tasks reconcile`.")


@tasks.command("recover")
def recover_tasks() -> None:
    """Complete deletions left in the middle, and settle doubts.

    The service does so by itself about every 30 seconds; this is for not waiting. Each is tried
    once. Exits with 1 if any are left: those that could not be settled now, and those that are
    under way or are too fresh to be looked at.
    """
    settled = 0
    for task_id, state, reason in sweep(services().deleter, most=EVERY):
        settled += reason is None
        click.echo(f"{task_id} {state if reason is None else f'is left: {reason}'}")
    left = count_marks()[0] + count_doubts()[0]
    click.echo(f"{settled} settled, {left} left.")
    if left:
        sys.exit(1)


tasks.add_command(reconcile_tasks)
tasks.add_command(restore_schedules)
