"""`recoup doctor`: is everything there that a deletion needs, and does it work together?"""

import sys
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from uuid import UUID

import click

from recoup.commands.findings import Finding, show
from recoup.commands.rehearsal import rehearse_deletions
from recoup.commands.trigger_checks import check_trigger
from recoup.config import Config, ConfigError
from recoup.database import guard, statements
from recoup.database.connection import FAILURES, DatabaseFailed, connect, is_postgres, release
from recoup.database.failures import explain
from recoup.database.orphans import count_orphans
from recoup.database.readiness import find_problems, missing_from_schema
from recoup.deletion.staged import WITNESSES

CLOCK_TOLERANCE_SECONDS = 5
OLD_ORPHAN_SECONDS = 3600
# No task has this id, so the sample of other tasks leaves none out.
NO_TASK = str(UUID(int=0))
NOT_COMPARED = Finding("note", "clock", "not compared, because the database can't be reached")


@click.command("doctor")
@click.option("--rehearse", is_flag=True, help="Also make and cancel schedules at Trigger.dev.")
def doctor(rehearse: bool) -> None:
    """Check settings, database and Trigger.dev.

    It also checks the clock, the key's environment and Privy's key. It reads some schedules at
    Trigger.dev and changes nothing.

    With --rehearse, and if nothing is wrong so far, it makes two schedules at Trigger.dev, looks
    them up and cancels them. It stops if an answer is not what deletions rely on. The schedules
    have their own keys, are switched off at once, and are gone at the end.

    Exits with 1 if anything is wrong.
    """
    findings = []
    for finding in examine():
        findings.append(finding)
        show(finding)
    well = all(finding.verdict != "failed" for finding in findings)
    if well and rehearse:
        well = rehearse_deletions(Config.load())
    if not well:
        sys.exit(1)


def examine() -> Iterator[Finding]:
    """Check one thing after the other; if the settings are wrong, only those."""
    try:
        config = Config.load()
    except ConfigError as error:
        for name, texts in sorted(error.problems.items()):
            yield Finding("failed", name, " ".join(texts))
        return
    connect(config)
    stored = yield from _examine_database()
    release()
    yield from check_trigger(config, stored)
    yield _check_privy(config)


def _examine_database() -> Generator[Finding, None, list[str] | None]:
    """Check the database; return some schedules that its tasks name, None if it can't say."""
    try:
        missing_from_schema()
    except FAILURES as error:
        yield Finding("failed", "database", f"can't be reached: {explain(error)}")
        # Nothing more is asked of it, as each question would wait for it again.
        yield NOT_COMPARED if is_postgres() else _check_clock()
        return None
    yield from _check_database()
    yield _check_clock()
    yield from _check_guard()
    return _sample_schedules()


def _check_database() -> Iterator[Finding]:
    """Name what stands against a deletion, as `/readyz` does."""
    problems = find_problems()
    for problem in problems:
        text = problem.removeprefix("The database ").removesuffix(".")
        yield Finding("failed", "database", text)
    if not problems:
        yield Finding("ok", "database", "reachable and upgraded")


def _check_clock() -> Finding:
    if not is_postgres():
        return Finding("ok", "clock", "SQLite uses this machine's")
    try:
        ahead = (datetime.now(UTC) - statements.read_clock()).total_seconds()
    except DatabaseFailed:
        return NOT_COMPARED
    if abs(ahead) <= CLOCK_TOLERANCE_SECONDS:
        return Finding("ok", "clock", "same as the database's")
    text = (
        f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the database's; set this "
        "machine's clock, which decides when a token has expired and how long a rate limit lasts"
    )
    return Finding("failed", "clock", text)


def _check_guard() -> Iterator[Finding]:
    """Check the guard and what it has recorded; say nothing if the database can't be asked."""
    try:
        found, (count, seconds) = guard.look(), count_orphans()
    except (DatabaseFailed, *FAILURES):
        return
    if found.is_whole:
        yield Finding("ok", "guard", "on: whoever deletes a task's row, its schedule is cancelled")
    else:
        off = "off: only this service's own deletions cancel schedules."
        state = " ".join(found.faults) or off
        how = (
            "`recoup db guard on` turns it on" if is_postgres() else "`recoup db upgrade` makes it"
        )
        yield Finding("note", "guard", f"{state} {how}")
    text = f"{count} wait to be cancelled, the first for {seconds:.0f} s"
    if seconds > OLD_ORPHAN_SECONDS:
        yield Finding("failed", "orphans", f"{text}: `recoup tasks recover` says why")
    else:
        yield Finding("ok", "orphans", text if count else "none")


def _sample_schedules() -> list[str] | None:
    """Return some schedules that enabled tasks name; None if the database fails."""
    try:
        return statements.sample_schedules(NO_TASK, WITNESSES)
    except DatabaseFailed:
        return None


def _check_privy(config: Config) -> Finding:
    if config.privy_jwt_verification_key is None:
        return Finding("note", "Privy", "not configured; only API keys are accepted")
    return Finding("ok", "Privy", f"the key of app {config.privy_app_id} can be used")
