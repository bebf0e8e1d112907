"""The commands `recoup tasks …`."""

import sys

import click

from recoup.commands.delete import delete_tasks
from recoup.commands.group import Group, services
from recoup.commands.reconcile import reconcile_tasks, restore_schedules
from recoup.database.statements import count_marks
from recoup.deletion.recovery import recover_expired

tasks = Group("tasks", help="Tasks and their deletions.")


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


tasks.add_command(delete_tasks)
tasks.add_command(reconcile_tasks)
tasks.add_command(restore_schedules)
