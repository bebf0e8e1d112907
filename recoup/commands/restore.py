"""The command `recoup tasks restore-schedules`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click
from flask.cli import with_appcontext

from recoup.commands.failing import failures_as
from recoup.commands.group import services
from recoup.reconcile.backup import read_backup
from recoup.reconcile.repair import EnvironmentUnknown, NotRestored, find_foreign, restore
from recoup.trigger.inventory import ScheduleInventory
from recoup.trigger.schedule import ENVIRONMENT_TYPES, Schedule

UNKNOWN = "this key lists no schedule, so it can't be told whether they belong to its environment"
# It can't be checked: Trigger.dev shows a schedule to none but its own environments.
RISK = "A schedule with the same key in another environment would move to this one"
NEXT = (
    "The ids are new: once the tasks' rows are there, `recoup tasks reconcile --fix` stores them."
)


@click.command("restore-schedules")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Don't ask if the key lists no schedule.")
@with_appcontext
def restore_schedules(file: Path, yes: bool) -> None:
    """Make the schedules in FILE again, as they were.

    FILE was written by `tasks reconcile --fix`. Schedules that exist are left alone, so you may run
    this again. The schedules get new ids. Once the tasks' rows are there, run
    `tasks reconcile --fix` next, which stores the ids.

    With a key of another environment than theirs, nothing is made. If the key lists no schedule,
    that can't be told, and it asks first. A schedule with the same key in another environment
    can't be seen, and would move to this one.

    Exits with 1 if any schedule is not restored.
    """
    try:
        schedules = read_backup(file)
    except OSError as error:
        raise click.UsageError(f"{file} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise click.UsageError(f"{file} was not written by `tasks reconcile --fix`.") from error
    inventory = ScheduleInventory.of(services().config)
    with failures_as(click.ClickException):
        try:
            _refuse_foreign(inventory, file, schedules)
        except EnvironmentUnknown:
            _ask(len(schedules), yes)
        states = [_restore(inventory, schedule) for schedule in schedules]
    refused = states.count("refused")
    if "new" in states:
        click.echo(NEXT)
    click.echo(f"{states.count('new')} restored{f', {refused} not' if refused else ''}.")
    if refused:
        sys.exit(1)


def _refuse_foreign(
    inventory: ScheduleInventory, file: Path, schedules: Sequence[Schedule]
) -> None:
    name = services().config.trigger_key_environment
    key_type = ENVIRONMENT_TYPES.get(name or "")
    if foreign := find_foreign(inventory, schedules, key_type):
        types = ", ".join(sorted(environment.type for environment in foreign.environments))
        raise click.ClickException(
            f"{foreign.id} in {file} belongs to another environment ({types or 'none'}) than "
            f"TRIGGER_SECRET_KEY ({key_type or 'unknown'}), which would take it over; "
            "nothing was made"
        )


def _ask(count: int, yes: bool) -> None:
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(
            f"{UNKNOWN}, and there is no terminal to ask at; give --yes. {RISK}."
        )
    if not yes:
        question = f"{RISK}. {UNKNOWN.capitalize()}. Make schedules: {count}?"
        click.confirm(question, abort=True, err=True)


def _restore(
    inventory: ScheduleInventory, schedule: Schedule
) -> Literal["new", "there", "refused"]:
    """Make a schedule again, and show the result."""
    try:
        schedule_id, new = restore(inventory, schedule)
    except NotRestored as error:
        click.echo(f"{schedule.id} is not restored: {error}", err=True)
        return "refused"
    click.echo(f"{schedule.id} {'is new as' if new else 'is there as'} {schedule_id}")
    return "new" if new else "there"
