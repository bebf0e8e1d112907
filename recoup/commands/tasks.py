"""The commands `recoup tasks …`."""

import sys
from uuid import UUID

import click

from recoup import log
from recoup.commands.group import Group, services
from recoup.commands.reconcile import reconcile_tasks, restore_schedules
from recoup.database.statements import count_marks
from recoup.deletion.recovery import recover_expired

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
    """Complete deletions left in the middle.

    The service does so by itself about every 30 seconds; this is for not waiting. Exits with 1
    if any are left: those that could not be completed, and those that are under way.
    """
    completed = 0
    while any(found := recover_expired(services().deleter)):
        deleted, standing = found
        completed += len(deleted)
        for task_id in deleted:
            click.echo(f"{task_id} deleted")
        for task_id in standing:
            click.echo(f"{task_id} could not be completed; it will be tried again")
    left, _ = count_marks()
    click.echo(f"{completed} completed, {left} left.")
    if left:
        sys.exit(1)


tasks.add_command(reconcile_tasks)
tasks.add_command(restore_schedules)
