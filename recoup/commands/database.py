"""The commands `recoup db …`."""

import sys

import click

from recoup.commands.group import Group
from recoup.database import guard
from recoup.database.connection import is_postgres
from recoup.database.migrations import upgrade
from recoup.database.orphans import count_orphans

database = Group("db", help="The database's tables.")


@database.command("upgrade")
def upgrade_database() -> None:
    """Add the tables and indexes that are missing.

    Run it before each new version. It may run at any time, again, and on several machines at
    once. On Postgres it alters and drops nothing that exists.
    """
    upgrade()
    click.echo("The database is up to date.")


guarding = Group("guard", help="Cancel the schedules of rows that others delete.")
database.add_command(guarding)


@guarding.command("on")
def turn_guard_on() -> None:
    """Record each task whose row others delete.

    Run it as the owner of the tables. It makes a function and two triggers on scheduled_actions.
    The service cancels the schedules of the rows that they record. You may run it again; it mends
    a broken guard. On SQLite the guard is always on.
    """
    if not is_postgres():
        upgrade()
    else:
        guard.turn_on()
    if faults := guard.look().faults:
        raise click.ClickException(f"the guard is made, but broken. {' '.join(faults)}")
    click.echo("The guard is on.")


@guarding.command("off")
def turn_guard_off() -> None:
    """Remove the guard's function and triggers.

    What it has recorded stays, and the service still cancels those schedules.
    """
    if not is_postgres():
        raise click.ClickException("on SQLite the guard is part of the tables, and stays on")
    guard.turn_off()
    click.echo(f"The guard is off. {_waiting()}")


@guarding.command("status")
def show_guard() -> None:
    """Say whether the guard is on, and what waits.

    Exits with 1 if it is off or broken.
    """
    found = guard.look()
    state = "on" if found.is_whole else "broken" if found.is_on else "off"
    click.echo(f"The guard is {state}. {' '.join(found.faults)}".rstrip())
    click.echo(_waiting())
    if not found.is_whole:
        sys.exit(1)


def _waiting() -> str:
    count, seconds = count_orphans()
    return f"Schedules that wait to be cancelled: {count}" + (
        f", the first for {seconds:.0f} s." if count else "."
    )
