"""How `tasks reconcile` and `restore-schedules` fail: in one line, with an exit code that tells."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from recoup.commands.group import explain_database
from recoup.database.connection import FAILURES, DatabaseFailed
from recoup.database.readiness import how_to_upgrade, missing_from_schema
from recoup.trigger.outcome import InventoryFailed


class CannotTell(click.ClickException):
    """It is not known whether there is drift, or what is left of it."""

    exit_code = 2


@contextmanager
def failures_as(kind: type[click.ClickException]) -> Iterator[None]:
    """Raise a failure of Trigger.dev or the database as *kind*, with one line."""
    try:
        yield
    except InventoryFailed as error:
        raise kind(str(error)) from error
    except (DatabaseFailed, *FAILURES) as error:
        raise kind(_explain(error)) from error


def _explain(error: Exception) -> str:
    """Say what the database lacks; if that is nothing or not known, what the database said."""
    with suppress(*FAILURES):
        if missing := missing_from_schema():
            return f"the database lacks {', '.join(missing)}; {how_to_upgrade()}"
    return explain_database(error, "check DATABASE_URL")
