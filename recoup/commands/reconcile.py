"""The command `recoup tasks reconcile`."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import click
from flask.cli import with_appcontext

from recoup import log
from recoup.commands import report
from recoup.commands.group import HIDDEN, explain_database, services
from recoup.commands.output import output_errors_as
from recoup.database.connection import FAILURES, DatabaseFailed
from recoup.database.readiness import how_to_upgrade, missing_from_schema
from recoup.reconcile.backup import write_backup
from recoup.reconcile.drift import Drift, find_drift
from recoup.reconcile.repair import delete_orphan, may_store_ids, rows_may_be_hidden, store_id
from recoup.trigger.inventory import ScheduleInventory, Watch
from recoup.trigger.outcome import InventoryFailed
from recoup.trigger.schedule import Schedule


class _CannotTell(click.ClickException):
    """It is not known whether there is drift, or what is left of it."""

    exit_code = 2


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
    with output_errors_as(_CannotTell), failures_as(_CannotTell):
        if rows_may_be_hidden():
            raise _CannotTell(HIDDEN)
        identifier = services().config.trigger_task_identifier
        drift, listed = find_drift(inventory, identifier, _progress)
        click.echo(report.as_json(drift) if as_json else report.as_table(drift, len(listed)))
        if fix and any(drift.values()):
            drift = _fix(inventory, drift, listed, yes, backup)
            _say_left(drift)
    if any(drift.values()):
        sys.exit(1)


def _fix(
    inventory: ScheduleInventory, drift: Drift, listed: dict[str, Schedule], yes: bool, backup: Path
) -> Drift:
    """Mend what can be mended, and return what is left."""
    orphans = [listed[m.schedule_id] for m in drift["orphans"] if m.schedule_id]
    left = {kind: list(mismatches) for kind, mismatches in drift.items()}
    if not orphans and not left["lost_ids"]:
        return left
    _refuse_in_vain(drift, listed)
    if not yes and not click.confirm(
        f"Delete orphans: {len(orphans)}, and store lost ids: {len(left['lost_ids'])}?", err=True
    ):
        return left
    _back_up(orphans, backup)
    with _partly_done(drift, left):
        _delete(inventory, orphans, left)
        _store(left)
    return left


def _refuse_in_vain(drift: Drift, listed: dict[str, Schedule]) -> None:
    """Fail before the first change, if what is known now stands against it."""
    if len(drift["orphans"]) == len(listed):
        raise _CannotTell(
            "no schedule belongs to a task of this database, so nothing is deleted; check "
            "DATABASE_URL, whether its role may see the rows, and TRIGGER_SECRET_KEY"
        )
    if drift["lost_ids"] and not may_store_ids():
        raise click.ClickException(
            "this role lacks UPDATE (trigger_schedule_id) on scheduled_actions, which storing "
            "lost ids needs, so nothing was changed; see docs/deployment.md"
        )


def _back_up(orphans: Sequence[Schedule], backup: Path) -> None:
    if not orphans:
        return
    try:
        write_backup(backup, orphans)
    except OSError as error:
        raise click.ClickException(
            f"{backup} can't be written, so nothing was changed: {error.strerror}"
        ) from error
    _say(f"{backup} has the schedules; `recoup tasks restore-schedules` makes them again")


def _delete(inventory: ScheduleInventory, orphans: Sequence[Schedule], left: Drift) -> None:
    for orphan in orphans:
        gone = delete_orphan(inventory, orphan)
        del left["orphans"][0]
        _say(f"{orphan.id} {'deleted' if gone else 'kept: a task has it now'}")


def _store(left: Drift) -> None:
    for mismatch in list(left["lost_ids"]):
        stored = store_id(mismatch)
        del left["lost_ids"][0]
        _say(f"{mismatch.schedule_id} {'stored' if stored else 'not stored: its task has changed'}")


@contextmanager
def _partly_done(drift: Drift, left: Drift) -> Iterator[None]:
    """After a failure, say what is left, and exit with 1, if anything was done before it."""
    try:
        with failures_as(click.ClickException):
            yield
    except click.ClickException as error:
        if left == drift:
            raise _CannotTell(error.message) from error
        _say_left(left)
        raise


@contextmanager
def _progress(label: str) -> Iterator[Watch]:
    """Show a bar on a terminal; elsewhere, nothing."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=hidden) as bar:

        def watch(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield watch


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


def _say_left(left: Drift) -> None:
    _say(f"Left: {report.count_kinds(left) or 'nothing'}.")


def _say(text: str) -> None:
    """Show progress to a person; with `--json`, standard output has only the JSON."""
    click.echo(text, err=click.get_current_context().params["as_json"])
