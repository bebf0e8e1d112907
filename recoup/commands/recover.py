"""The command `recoup tasks recover`."""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import click
from flask.cli import with_appcontext

from recoup.commands.group import services
from recoup.commands.table import iso
from recoup.database.connection import release
from recoup.database.models import OrphanedSchedule, TaskDeletion, now
from recoup.database.orphans import hasten_orphans
from recoup.deletion.guard import MOST_FAILURES
from recoup.deletion.sweep import sweep
from recoup.trigger.answers import SETTLING_SECONDS

# More than there ever are.
EVERY = 1_000_000


@click.command("recover")
@with_appcontext
def recover_tasks() -> None:
    """Complete deletions left in the middle; settle doubts.

    It also cancels the schedules of rows that others deleted, at most ten a second. The service
    does all this automatically about every 30 seconds; this command does it now. It tries each
    once. It names what is left, with the reason and the time of the next try.

    Exits with 1 if any are left.
    """
    hasten_orphans()
    settled, reasons = 0, {}
    failed: list[str] = []  # the last ones, in a row
    for task_id, state, reason in sweep(services().deleter, most=EVERY, seconds=EVERY):
        if reason is None:
            settled += 1
            failed.clear()
            click.echo(f"{task_id} {state}")
        elif state == "waiting":
            failed.append(reason)
        reasons[task_id] = reason
    left = [*_deletions_left(), *_orphans_left(failed)]
    release()
    for task_id, until, otherwise in left:
        click.echo(f"{task_id} is left{_when(until)}: {reasons.get(task_id) or otherwise}")
    click.echo(f"{settled} settled, {len(left)} left.")
    if left:
        sys.exit(1)


def _when(until: datetime) -> str:
    return ", due now" if until <= now() else f" until {iso(until)}"


def _deletions_left() -> Iterator[tuple[str, datetime, str]]:
    """Yield each marked task, when it is tried again, and why not now."""
    for mark in TaskDeletion.select().order_by(TaskDeletion.lease_expires_at):
        until, why = mark.lease_expires_at, "its deletion is under way"
        if mark.doubtful_since:
            until = max(until, mark.doubtful_since + timedelta(seconds=SETTLING_SECONDS))
            why = "Trigger.dev may still act"
        yield str(mark.task_id), until, why  # type: ignore[attr-defined]


def _orphans_left(failed: Sequence[str]) -> Iterator[tuple[str, datetime, str]]:
    """Yield each task whose row is gone, when its schedules are tried, and why not now.

    `failed`: the reasons of the last tries, which failed in a row.
    """
    untried = "a worker is trying such tasks now; see the service's log"
    if len(failed) >= MOST_FAILURES:
        untried = f"not tried, because others failed before it ({failed[-1]})"
    for orphan in OrphanedSchedule.select().order_by(OrphanedSchedule.due_at):
        early = not orphan.attempts and orphan.due_at > now()
        why = "it may be about to get a schedule" if early else untried
        yield str(orphan.task_id), orphan.due_at, why
