"""The commands `recoup db …`."""

import click

from recoup.commands.group import Group
from recoup.database.migrations import upgrade

database = Group("db", help="The database's tables.")


@database.command("upgrade")
def upgrade_database() -> None:
    """Add the tables and indexes that are missing.

    Run it before each new version; it may run at any time, again, and on several machines at
    once. On Postgres nothing that is there is altered or dropped.
    """
    upgrade()
    click.echo("The database is up to date.")
