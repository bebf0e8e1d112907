"""What the groups of commands share: how a failure is told, and what they work with."""

import sys
from typing import Any, cast

import click
import peewee
from flask import current_app
from flask.cli import AppGroup

from recoup import log
from recoup.database.connection import DatabaseFailed
from recoup.deletion.outcomes import (
    DeletionInDoubt,
    DeletionNotPossible,
    DeletionPending,
    DeletionRolledBack,
    DeletionUnfinished,
    TaskNotFound,
)
from recoup.web.errors import FAILURES, describe
from recoup.web.services import Services

DELETION_FAILURES = (
    DeletionInDoubt,
    DeletionNotPossible,
    DeletionPending,
    DeletionRolledBack,
    DeletionUnfinished,
)


class Group(AppGroup):
    """Commands whose failures are one line, and not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        # Under `flask` the app has been made; standard output is for what was asked for.
        log.configure(sys.stderr)
        try:
            return super().invoke(ctx)
        except (DatabaseFailed, peewee.PeeweeException) as error:
            hint = "; see `recoup doctor`"
            raise click.ClickException(f"the database failed: {one_line(error)}{hint}") from error
        except TaskNotFound:
            raise click.ClickException("there is no such task; is it deleted already?") from None
        except DELETION_FAILURES as error:
            reason = one_line(describe(error))
            raise click.ClickException(f"{FAILURES[type(error)]} ({reason})") from error


def one_line(text: object) -> str:
    """Return `text` with every run of white space as one blank."""
    return " ".join(str(text).split())


def services() -> Services:
    """Return what the app in hand works with."""
    return cast(Services, current_app.extensions["recoup"])
