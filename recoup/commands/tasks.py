"""The commands `recoup tasks …`."""

import sys

import click

from recoup.commands.delete import delete_tasks
from recoup.commands.group import Group, services
from recoup.commands.reconcile import reconcile_tasks
from recoup.commands.restore import restore_schedules
from recoup.database.orphans import count_orphans, hasten_orphans
from recoup.database.statements import count_doubts, count_marks
from recoup.deletion.sweep import sweep

# A number that is no limit.
EVERY = 1_000_000

tasks = Group("tasks", help="Tasks and their deletions.")


@tasks.command("recover")
def recover_tasks() -> None:
    """Complete deletions left in the middle; settle doubts.

    And cancel the schedules of tasks whose rows went in other ways, ten a second at the most. The
    service does all this by itself about every 30 seconds; this is for not waiting. Each is tried
    once. Exits with 1 if any are left: those that could not be settled now, and those that are
    under way or are too fresh to be looked at.
    """
    hasten_orphans()
    settled = 0
    for task_id, state, reason in sweep(services().deleter, most=EVERY, seconds=EVERY):
        settled += reason is None
        click.echo(f"{task_id} {state if reason is None else f'is left: {reason}'}")
    left = count_marks()[0] + count_doubts()[0] + count_orphans()[0]
    click.echo(f"{settled} settled, {left} left.")
    if left:
        sys.exit(1)


tasks.add_command(delete_tasks)
tasks.add_command(reconcile_tasks)
tasks.add_command(restore_schedules)
