"""`recoup doctor`: is all there that a deletion needs, and does it fit together?"""

import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import click
import requests

from recoup.config import TRIGGER_ENVIRONMENTS, Config, ConfigError
from recoup.database import guard, statements
from recoup.database.connection import FAILURES, DatabaseFailed, connect, is_postgres, release
from recoup.database.failures import explain
from recoup.database.orphans import count_orphans
from recoup.database.readiness import missing_from_schema
from recoup.trigger.route import SchedulesRoute

CLOCK_TOLERANCE_SECONDS = 5
OLD_ORPHAN_SECONDS = 3600
COLOURS = {"ok": "green", "note": "yellow", "failed": "red"}


class Finding(NamedTuple):
    """What a check found; a note is for the operator to know, and not wrong."""

    verdict: Literal["ok", "note", "failed"]
    subject: str
    text: str


@click.command("doctor")
def doctor() -> None:
    """Check settings, database and Trigger.dev.

    Also the clock, the key's environment and Privy's key. At Trigger.dev one schedule is read,
    with the key that is set; nothing is changed.

    Exits with 1 if anything is wrong.
    """
    failed = False
    for finding in examine():
        verdict = click.style(finding.verdict.ljust(6), fg=COLOURS[finding.verdict])
        click.echo(f"{verdict}  {finding.subject}: {finding.text}")
        failed |= finding.verdict == "failed"
    if failed:
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
    yield _check_database()
    yield _check_clock()
    yield from _check_guard()
    release()
    yield _check_trigger(config)
    yield _check_environment(config)
    yield _check_privy(config)


def _check_database() -> Finding:
    try:
        missing = missing_from_schema()
    except FAILURES as error:
        return Finding("failed", "database", f"can't be reached: {explain(error)}")
    if missing:
        text = f"lacks {', '.join(missing)}: run `recoup db upgrade`"
        return Finding("failed", "database", text)
    return Finding("ok", "database", "reachable and upgraded")


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


def _check_guard() -> Iterator[Finding]:
    """Look for the guard and for what it has recorded; say nothing where these can't be asked."""
    try:
        found, (count, seconds) = guard.look(), count_orphans()
    except (DatabaseFailed, *FAILURES):
        return
    if found.is_whole:
        yield Finding("ok", "guard", "on: whoever deletes a task's row, its schedule goes")
    else:
        state = " ".join(found.faults) or "off: only deletions of this service cancel schedules"
        yield Finding("note", "guard", f"{state}; `recoup db guard on` makes it")
    text = f"{count} wait to be cancelled, the first for {seconds:.0f} s"
    if seconds > OLD_ORPHAN_SECONDS:
        yield Finding("failed", "orphans", f"{text}: `recoup tasks recover` says why")
    else:
        yield Finding("ok", "orphans", text if count else "none")


def _check_trigger(config: Config) -> Finding:
    route = SchedulesRoute.of(config)
    try:
        answer = route.look(config.trigger_deadline_seconds)
    except requests.RequestException as error:
        reason = _reason(error)
        text = f"{config.trigger_api_url} can't be reached: {reason}{_advise(config, reason)}"
        return Finding("failed", "Trigger.dev", text)
    if answer.status in (401, 403):
        text = f"refuses TRIGGER_SECRET_KEY, with status {answer.status}"
        return Finding("failed", "Trigger.dev", text)
    if answer.status != 200:
        text = f"{config.trigger_api_url} answers with status {answer.status}"
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
    prefixes = TRIGGER_ENVIRONMENTS.items()
    key = config.trigger_secret_key
    found = next((name for name, prefix in prefixes if key.startswith(prefix)), "no known one")
    if config.trigger_environment is None:
        text = f"the key's is {found}; set TRIGGER_ENVIRONMENT to have it checked"
        return Finding("note", "environment", text)
    if found != config.trigger_environment:
        text = f"TRIGGER_ENVIRONMENT is {config.trigger_environment}, but the key's is {found}"
        return Finding("failed", "environment", text)
    return Finding("ok", "environment", f"the key's is {found}, as it should be")


def _check_privy(config: Config) -> Finding:
    if config.privy_jwt_verification_key is None:
        return Finding("note", "Privy", "not configured; only API keys are taken")
    return Finding("ok", "Privy", f"the key of app {config.privy_app_id} can be used")
