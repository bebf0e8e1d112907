"""The commands `recoup tasks …`."""

from recoup.commands.delete import delete_tasks
from recoup.commands.group import Group
from recoup.commands.reconcile import reconcile_tasks
from recoup.commands.recover import recover_tasks
from recoup.commands.restore import restore_schedules

tasks = Group("tasks", help="Tasks and their deletions.")
tasks.add_command(delete_tasks)
tasks.add_command(recover_tasks)
tasks.add_command(reconcile_tasks)
tasks.add_command(restore_schedules)
