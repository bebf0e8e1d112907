"""The command `recoup`. `flask` finds the same commands by their entry points in `setup.cfg`."""

import sys
from typing import Any

import click
from flask import Flask
from flask.cli import FlaskGroup

from recoup import __version__, log
from recoup.app import create_app
from recoup.commands.database import database
from recoup.commands.doctor import doctor
from recoup.commands.keys import keys
from recoup.commands.output import output_errors_as
from recoup.commands.settings import settings
from recoup.commands.tasks import tasks


class _Recoup(FlaskGroup):
    """Finds its commands without the app, so that `--help` works before anything is set."""

    list_commands = click.Group.list_commands
    get_command = click.Group.get_command  # type: ignore[assignment]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; not each one is in a `Group` of ours."""
        with output_errors_as(click.ClickException):
            return super().invoke(ctx)


def _load_app() -> Flask:
    app = create_app()
    log.configure(sys.stderr)
    return app


main = _Recoup(
    name="recoup",
    create_app=_load_app,
    add_default_commands=False,
    add_version_option=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Operate the service that deletes tasks together with their schedules.

    \b
    To set it up:           config check, db upgrade, doctor, keys create
    Before a new version:   db upgrade
    When paged:             doctor, tasks recover, tasks reconcile
    Before an account goes: tasks delete --account

    Settings come from the environment, or else from .env in the current folder.
    """,
)
# Without Flask's `--app`, `--debug` and `--env-file`. The last reads `.env` of folders above, too.
main.params.clear()
click.version_option(__version__, message="%(prog)s %(version)s")(main)
for _command in (database, keys, tasks, settings, doctor):
    main.add_command(_command)
