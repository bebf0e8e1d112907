"""The command `recoup tasks reconcile`."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from flask.cli import with_appcontext

from recoup import log
from recoup.commands import report
from recoup.commands.failing import CannotTell, failures_as
from recoup.commands.fix import fix_drift
from recoup.commands.group import HIDDEN, services
from recoup.commands.output import output_errors_as
from recoup.reconcile.drift import find_drift
from recoup.reconcile.repair import rows_may_be_hidden
from recoup.trigger.inventory import ScheduleInventory, Watch


@click.command("reconcile")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--fix", is_flag=True, help="Delete orphans and store lost ids.")
@click.option("--yes", is_flag=True, help="Don't ask before anything is changed.")
@click.option(
    "--backup",
    type=click.Path(dir_okay=False, path_type=Path),
    default=lambda: f"recoup-schedules-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json",
    show_default="recoup-schedules-TIME.json",
    help="Where to write the schedules before --fix deletes them.",
)
@with_appcontext
def reconcile_tasks(as_json: bool, fix: bool, yes: bool, backup: Path) -> None:
    """Compare the tasks with their schedules at Trigger.dev.

    \b
    orphans     schedules that no task has
    dead_tasks  enabled tasks whose schedule is gone
    lost_ids    tasks that don't name the schedule they have
    duplicates  schedules of a task that has another one

    Only --fix changes anything: it deletes orphans and stores lost ids. Dead tasks and duplicates
    need a person; the output says how to mend them.

    Exits with 0 if there is no drift (left), with 1 if there is, and with 2 if it can't tell.
    """
    if fix and not yes and not sys.stdin.isatty():
        raise click.UsageError("--fix asks first, and there is no terminal to ask at; give --yes.")
    if sys.stderr.isatty():  # a person sees the result, and needn't read it in the log too
        log.logger.setLevel(logging.WARNING)
    inventory = ScheduleInventory.of(services().config)
    with output_errors_as(CannotTell), failures_as(CannotTell):
        if rows_may_be_hidden():
            raise CannotTell(HIDDEN)
        identifier = services().config.trigger_task_identifier
        drift, listed = find_drift(inventory, identifier, _progress)
        click.echo(report.as_json(drift) if as_json else report.as_table(drift, len(listed)))
        if fix and any(drift.values()):
            drift = fix_drift(inventory, drift, listed, yes, backup)
    if any(drift.values()):
        sys.exit(1)


@contextmanager
def _progress(label: str) -> Iterator[Watch]:
    """Show a bar on a terminal; elsewhere, nothing."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=hidden) as bar:

        def watch(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield watch
