"""What the groups of commands share: how a failure is shown, and the services."""

import sys
from typing import Any, cast
from uuid import UUID

import click
import peewee
from flask import current_app
from flask.cli import AppGroup

from recoup import log
from recoup.commands.output import output_errors_as
from recoup.commands.table import printable
from recoup.database import failures
from recoup.database.connection import DatabaseFailed
from recoup.database.models import Account
from recoup.database.session import sqlstate
from recoup.deletion.outcomes import (
    DeletionInDoubt,
    DeletionNotPossible,
    DeletionPending,
    DeletionRolledBack,
    DeletionUnfinished,
    TaskNotFound,
)
from recoup.web.errors import FAILURES
from recoup.web.services import Services

# The failures that a command may end with.
EXPECTED = (
    DatabaseFailed,
    peewee.PeeweeException,
    TaskNotFound,
    DeletionInDoubt,
    DeletionNotPossible,
    DeletionPending,
    DeletionRolledBack,
    DeletionUnfinished,
)
# By SQLSTATE, what to do about what Postgres refuses; `recoup doctor` would find nothing amiss.
ADVICE = {
    "42501": "this role lacks a right: run it as the owner of the tables, see docs/deployment.md",
    "55P03": "another program holds a lock: run it again",
}
# Shown instead of a result that would lack the rows that this role doesn't see.
HIDDEN = "row level security may hide tasks from this role; use one that bypasses it"


class Group(AppGroup):
    """Commands whose failures are one line, and not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        # Standard output is for the result.
        log.configure(sys.stderr)
        try:
            with output_errors_as(click.ClickException):
                return super().invoke(ctx)
        except EXPECTED as error:
            raise click.ClickException(explain(error)) from error


def explain(error: Exception) -> str:
    """Return the line that an operator reads for one of `EXPECTED`."""
    if isinstance(error, DatabaseFailed | peewee.PeeweeException):
        return explain_database(error, "see `recoup doctor`")
    if isinstance(error, TaskNotFound):
        return "there is no such task; perhaps it is deleted already"
    reason = one_line(error.__cause__ or error)
    return FAILURES[type(error)] + (f" ({reason})" if reason else "")


def explain_database(error: Exception, otherwise: str) -> str:
    """Return what the database said, and what to do about it, or else `otherwise`."""
    said = error if isinstance(error, DatabaseFailed) else failures.explain(error)
    code = sqlstate(error.__cause__ or error) or ""
    return f"the database failed: {one_line(said).rstrip('.')}; {ADVICE.get(code, otherwise)}"


def one_line(text: object) -> str:
    """Return `text` on one line; what can't be printed is escaped."""
    return printable(" ".join(str(text).split()))


def require_account(account: UUID) -> None:
    """Fail the command if there is no such account, probably because of a typing error."""
    if not Account.select().where(Account.id == account).exists():
        raise click.ClickException(f"there is no account {account}")


def services() -> Services:
    """Return the services of the current app."""
    return cast(Services, current_app.extensions["recoup"])
