"""`recoup tasks reconcile --fix`: asks, writes a backup, and mends one mismatch after the other."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

import click

from recoup.commands import report
from recoup.commands.failing import CannotTell, failures_as
from recoup.reconcile.backup import write_backup
from recoup.reconcile.drift import Drift, Mismatch
from recoup.reconcile.repair import delete_orphan, is_lost, may_store_ids, owners, store_id
from recoup.trigger.inventory import ScheduleInventory
from recoup.trigger.schedule import Schedule

SHARED = "kept: several environments use it, so a person has to look"
SEVERAL_TASKS = "several tasks could have it, so a person has to look"


def fix_drift(
    inventory: ScheduleInventory, drift: Drift, listed: dict[str, Schedule], yes: bool, backup: Path
) -> Drift:
    """Mend what can be mended, say what is left, and return that."""
    repair = _Repair(inventory, drift, backup)
    orphans = {m: listed[m.schedule_id] for m in drift["orphans"] if m.schedule_id}
    for shared in filter(attrgetter("is_shared"), orphans.values()):
        _say(f"{shared.id} {SHARED}")
    alone = {m: orphan for m, orphan in orphans.items() if not orphan.is_shared}
    if alone or drift["lost_ids"]:
        _refuse_before_any_change(drift, listed)
        if yes or _confirm(len(alone), len(drift["lost_ids"])):
            _back_up(list(alone.values()), backup)
            with _partly_done(repair):
                repair.run(alone)
    _say_left(repair.left)
    return repair.left


class _Repair:
    """The mending itself: what is left so far, and whether anything was changed."""

    def __init__(self, inventory: ScheduleInventory, drift: Drift, backup: Path) -> None:
        self._inventory = inventory
        self._how_to_restore = f"`recoup tasks restore-schedules {backup}`"
        self.left = {kind: list(mismatches) for kind, mismatches in drift.items()}
        self.changed = False

    def run(self, orphans: Iterable[Mismatch]) -> None:
        """Delete the orphans, store the lost ids, and say what became of each."""
        for orphan in orphans:
            _say(f"{orphan.schedule_id} {self._delete(orphan)}")
        for lost in list(self.left["lost_ids"]):
            _say(f"{lost.schedule_id} {self._store(lost)}")

    def _delete(self, orphan: Mismatch) -> str:
        now = self._look_up(orphan)
        if now and now.is_shared:
            return SHARED
        deleted = now is not None and delete_orphan(self._inventory, now)
        self.changed |= deleted
        # A row may come back between the look at the rows and the deletion.
        if now and deleted and owners(now):
            return f"deleted, but a task has it now: {self._how_to_restore} makes it again"
        self.left["orphans"].remove(orphan)
        if now is None:
            return "is gone already"
        return "deleted" if deleted else "kept: a task has it now"

    def _store(self, lost: Mismatch) -> str:
        reason = self._reason_not_to_store(lost)
        stored = reason is None and store_id(lost)
        self.changed |= stored
        if stored or not is_lost(lost):
            self.left["lost_ids"].remove(lost)
        return "stored" if stored else f"not stored: {reason or 'its task has changed'}"

    def _reason_not_to_store(self, lost: Mismatch) -> str | None:
        now = self._look_up(lost)
        if now is None:
            return "it is gone"
        tasks = owners(now)
        # The deletion of either task would cancel it.
        if len(tasks) > 1:
            return SEVERAL_TASKS
        return None if lost.task_id in tasks else "it is no longer its task's"

    def _look_up(self, mismatch: Mismatch) -> Schedule | None:
        """Return the schedule as it is now; the question may have waited an hour for its answer."""
        return self._inventory.get(mismatch.schedule_id or "")


def _confirm(orphans: int, lost_ids: int) -> bool:
    question = f"Delete orphans: {orphans}, and store lost ids: {lost_ids}?"
    return click.confirm(question, err=True)


def _refuse_before_any_change(drift: Drift, listed: dict[str, Schedule]) -> None:
    """Fail before the first change, if what is known now stands against it."""
    if len(drift["orphans"]) == len(listed):
        raise CannotTell(
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


@contextmanager
def _partly_done(repair: _Repair) -> Iterator[None]:
    """After a failure, say what is left, and exit with 1, if anything was done before it."""
    try:
        with failures_as(click.ClickException):
            yield
    except click.ClickException as error:
        if not repair.changed:
            raise CannotTell(error.message) from error
        _say_left(repair.left)
        raise


def _say_left(left: Drift) -> None:
    _say(f"Left: {report.count_kinds(left) or 'nothing'}.")


def _say(text: str) -> None:
    """Show progress to a person; with `--json`, standard output has only the JSON."""
    click.echo(text, err=click.get_current_context().params["as_json"])
