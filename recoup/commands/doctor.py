"""`recoup doctor`: is all there that a deletion needs, and does it fit together?"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import click
import requests

from recoup.commands.findings import Finding, show
from recoup.commands.rehearsal import rehearse_deletions
from recoup.config import Config, ConfigError
from recoup.database import statements
from recoup.database.connection import FAILURES, DatabaseFailed, connect, is_postgres, release
from recoup.database.failures import explain
from recoup.database.readiness import find_problems, missing_from_schema
from recoup.deletion.staged import WITNESSES
from recoup.trigger.answers import error_text
from recoup.trigger.inventory import ScheduleInventory
from recoup.trigger.outcome import InventoryFailed
from recoup.trigger.schedule import SCHEDULE_ID

CLOCK_TOLERANCE_SECONDS = 5
# There is no such task, so that any may be in a sample of the others.
NO_TASK = str(UUID(int=0))
WRONG_KEY = (
    "it is of another environment or project, or, if the schedules are really gone, set "
    "TRIGGER_TRUST_MISSING for their tasks to be deleted"
)


@click.command("doctor")
@click.option("--rehearse", is_flag=True, help="Make and cancel schedules at Trigger.dev, too.")
def doctor(rehearse: bool) -> None:
    """Check settings, database and Trigger.dev.

    Also the clock, the key's environment and Privy's key. At Trigger.dev some schedules are read,
    with the key that is set; nothing is changed.

    With --rehearse, and nothing wrong so far, it makes two schedules at Trigger.dev with keys of
    their own, looks them up and cancels them, and stops where an answer isn't one that deletions
    rely on. They are inactive at once, far from firing, and gone in the end.

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
    """Check one thing after the other; if the settings are wrong, nothing but these."""
    try:
        config = Config.load()
    except ConfigError as error:
        for name, texts in sorted(error.problems.items()):
            yield Finding("failed", name, " ".join(texts))
        return
    connect(config)
    yield from _check_database()
    yield _check_clock()
    stored = _sample_schedules()
    release()
    inventory = ScheduleInventory.of(config)
    trigger = _check_trigger(config, inventory)
    yield trigger
    yield _check_environment(config)
    if trigger.verdict == "ok":
        yield _check_stored(config, inventory, stored)
    yield _check_privy(config)


def _check_database() -> Iterator[Finding]:
    """Name what keeps deletions from being finished, as `/readyz` does, or why it can't be told."""
    try:
        missing_from_schema()
    except FAILURES as error:
        yield Finding("failed", "database", f"can't be reached: {explain(error)}")
        return
    problems = find_problems()
    for problem in problems:
        text = problem.removeprefix("The database ").removesuffix(".")
        yield Finding("failed", "database", text)
    if not problems:
        yield Finding("ok", "database", "reachable and upgraded")


def _check_clock() -> Finding:
    if not is_postgres():
        return Finding("ok", "clock", "SQLite goes by this machine's")
    try:
        ahead = (datetime.now(UTC) - statements.read_clock()).total_seconds()
    except DatabaseFailed:
        return Finding("note", "clock", "not compared, as the database can't be reached")
    if abs(ahead) <= CLOCK_TOLERANCE_SECONDS:
        return Finding("ok", "clock", "as the database's")
    text = (
        f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the database's; this one "
        "judges when a token has expired and how long Trigger.dev's rate limit lasts"
    )
    return Finding("failed", "clock", text)


def _sample_schedules() -> list[str]:
    """Return some of the schedules that enabled tasks name; none where the database is amiss."""
    try:
        return statements.sample_schedules(NO_TASK, WITNESSES)
    except DatabaseFailed:
        return []


def _check_trigger(config: Config, inventory: ScheduleInventory) -> Finding:
    try:
        answer = inventory.look(config.trigger_deadline_seconds)
    except requests.RequestException as error:
        reason = _reason(error)
        text = f"{config.trigger_api_url} can't be reached: {reason}{_advise(config, reason)}"
        return Finding("failed", "Trigger.dev", text)
    if answer.status in (401, 403):
        text = f"refuses TRIGGER_SECRET_KEY, with status {answer.status}"
        return Finding("failed", "Trigger.dev", text)
    if answer.status != 200:
        said = error_text(answer)
        text = f"{config.trigger_api_url} answers with status {answer.status}"
        text += f": {said}" if said else ""
        return Finding("failed", "Trigger.dev", text)
    try:
        count = int(json.loads(answer.body)["pagination"]["count"])
    except (ValueError, TypeError, KeyError, RecursionError):
        text = f"{config.trigger_api_url} doesn't answer as Trigger.dev does"
        return Finding("failed", "Trigger.dev", text)
    return Finding("ok", "Trigger.dev", f"reachable with this key (schedules: {count})")


def _reason(error: requests.RequestException) -> str:
    """Name what happened, without urllib3's words about how often it was tried."""
    cause = error.args[0] if error.args else ""
    return f"{type(error).__name__}: {getattr(cause, 'reason', cause)}"


def _advise(config: Config, reason: str) -> str:
    """Name the setting that says whom to trust, where the certificate isn't trusted."""
    if not re.search("self.signed certificate|unable to get local issuer", reason):
        return ""
    if config.ca_variable:
        return f"; the file of {config.ca_variable} lacks the authority that signed it"
    return "; set REQUESTS_CA_BUNDLE to a file with the authority that signed it"


def _check_environment(config: Config) -> Finding:
    """Compare the environment that the key is of, by its prefix, with what it should be."""
    found = config.trigger_key_environment or "no known one"
    if config.trigger_environment is None:
        text = f"the key's is {found}; set TRIGGER_ENVIRONMENT to have it checked"
        return Finding("note", "environment", text)
    if found != config.trigger_environment:
        text = f"TRIGGER_ENVIRONMENT is {config.trigger_environment}, but the key's is {found}"
        return Finding("failed", "environment", text)
    return Finding("ok", "environment", f"the key's is {found}, as it should be")


def _check_stored(config: Config, inventory: ScheduleInventory, stored: Sequence[str]) -> Finding:
    """Look up what tasks name: a key of another environment or project knows none of it."""
    if not stored:
        return Finding("note", "schedules", "no enabled task names one that could be looked up")
    try:
        known = sum(bool(SCHEDULE_ID.fullmatch(id_) and inventory.get(id_)) for id_ in stored)
    except InventoryFailed as error:
        return Finding("failed", "schedules", f"can't be looked up: {error}")
    if known:
        text = f"this key knows {known} of {len(stored)} that tasks name"
        return Finding("ok", "schedules", text)
    text = f"this key knows none of {len(stored)} that tasks name"
    if config.trigger_trust_missing:
        return Finding("note", "schedules", f"{text}; by TRIGGER_TRUST_MISSING they are gone")
    return Finding("failed", "schedules", f"{text}; {WRONG_KEY}")


def _check_privy(config: Config) -> Finding:
    if config.privy_jwt_verification_key is None:
        return Finding("note", "Privy", "not configured; only API keys are taken")
    return Finding("ok", "Privy", f"the key of app {config.privy_app_id} can be used")
