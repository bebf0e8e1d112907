"""The command `recoup tasks delete`."""

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import click
from flask.cli import with_appcontext

from recoup import log
from recoup.commands.group import EXPECTED, HIDDEN, explain, require_account, services
from recoup.commands.table import table
from recoup.database.connection import release
from recoup.database.models import ScheduledAction
from recoup.reconcile.repair import rows_may_be_hidden
from recoup.trigger import inventory

SEE = "see `recoup tasks reconcile`"


def _read_ids(
    ctx: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> list[UUID] | None:
    """Return each id once, with those of standard input for `-`; None without any argument."""
    words: list[str] = []
    for text in given:
        words += _read_standard_input() if text == "-" else [text]
    return list(dict.fromkeys(click.UUID(word, param, ctx) for word in words)) if given else None


def _read_standard_input() -> list[str]:
    return sys.stdin.buffer.read().decode(errors="replace").split()


@click.command("delete")
@click.argument("task_ids", metavar="[TASK_ID | -]...", nargs=-1, callback=_read_ids)
@click.option("--account", type=click.UUID, help="Delete all tasks of this account.")
@click.option("--yes", is_flag=True, help="Don't ask before an account's tasks are deleted.")
@with_appcontext
def delete_tasks(task_ids: list[UUID] | None, account: UUID | None, yes: bool) -> None:
    """Delete tasks, each with its schedule.

    The deletion is that of DELETE /api/tasks, but of any account's tasks. A - reads ids from
    standard input. After a failure it goes on with the next task.

    Use --account before you delete an account. The tasks that it owns, or is the artist of, would
    be deleted with it and leave their schedules behind. It shows the tasks and asks first.

    Exits with 1 if any task was not deleted.
    """
    if (task_ids is None) == (account is None):
        raise click.UsageError("Give either the ids of tasks (- to read them) or --account.")
    found = _of_account(account, yes) if account else task_ids or []
    if len(found) == 1:
        _delete_one(found[0])
    else:
        _delete_each(found)


def _of_account(account: UUID, yes: bool) -> list[UUID]:
    """Show the tasks that would go with an account, ask, and return them."""
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(
            "--account asks first, and there is no terminal to ask at; give --yes."
        )
    if rows_may_be_hidden():
        raise click.ClickException(HIDDEN)
    tasks = _go_with(account)
    if not tasks:
        require_account(account)
        return []
    release()  # somebody may take long to answer
    rows = (_row(task, account) for task in tasks)
    click.echo("\n".join(table(("TASK", "ROLE", "CRON", "TITLE"), *rows)))
    if not yes:
        question = f"Delete tasks: {len(tasks)}, each with its schedule?"
        click.confirm(question, abort=True, err=True)
    return [task.id for task in tasks]


def _go_with(account: UUID) -> list[ScheduledAction]:
    """Return the tasks that the database deletes with an account."""
    task = ScheduledAction
    theirs = (task.account_id == account) | (task.artist_account_id == account)
    return list(task.select().where(theirs).order_by(task.title, task.id))


def _row(task: ScheduledAction, account: UUID) -> tuple[str, ...]:
    role = "owner" if task.account_id == account else "artist"
    return str(task.id), role, task.schedule, task.title


def _delete_one(task_id: UUID) -> None:
    unknown = _delete(task_id)
    click.echo(f"Task {task_id} is deleted.")
    if unknown:
        click.echo(f"Trigger.dev knew no schedule of it; {SEE}.")


def _delete(task_id: UUID) -> bool:
    """Delete a task; return whether its schedule was missing at Trigger.dev."""
    with log.record("command", command="tasks delete") as notes:
        services().deleter.delete(str(task_id), None)
    return bool(notes.get("missing"))


def _delete_each(task_ids: Sequence[UUID]) -> None:
    """Delete one task after the other, also after a failure."""
    on_terminal = sys.stderr.isatty()
    if on_terminal:  # there is a bar, and failures are shown below it
        log.logger.setLevel(logging.CRITICAL)
    tally = _Tally(len(task_ids))
    try:
        with click.progressbar(
            task_ids, label="Deleting", show_pos=True, file=sys.stderr, hidden=not on_terminal
        ) as bar:
            for task_id in bar:
                tally.delete(task_id)
                # Most of the rate limit is left to the programs that share the key.
                time.sleep(inventory.SECONDS_BETWEEN_REQUESTS)
    finally:
        tally.tell()
    if tally.failures:
        sys.exit(1)


@dataclass
class _Tally:
    """How `total` tasks ended; `unknown`: for how many Trigger.dev knew no schedule."""

    total: int
    deleted: int = 0
    unknown: int = 0
    failures: list[str] = field(default_factory=list)

    def delete(self, task_id: UUID) -> None:
        """Delete a task, and count how that ended."""
        try:
            self.unknown += _delete(task_id)
        except EXPECTED as error:
            self.failures.append(f"{task_id}: {explain(error)}")
            return
        self.deleted += 1
        if not (sys.stdout.isatty() and sys.stderr.isatty()):  # otherwise it would break the bar
            click.echo(f"Task {task_id} is deleted.")

    def tell(self) -> None:
        """Show what failed; the last line adds up."""
        for failure in self.failures:
            click.echo(f"Error: {failure}", err=True)
        if self.unknown:
            click.echo(f"Trigger.dev knew no schedule of {self.unknown} of them; {SEE}.")
        left = self.total - self.deleted - len(self.failures)
        counts = f"{self.deleted} of {self.total} deleted"
        counts += f", {len(self.failures)} failed" if self.failures else ""
        counts += f", {left} left" if left else ""
        click.echo(f"{counts}.")
