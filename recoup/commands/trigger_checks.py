"""What `recoup doctor` checks at Trigger.dev: its address, and the key's environment."""

import json
import re
from collections.abc import Iterator, Sequence

import requests

from recoup.commands.findings import Finding
from recoup.config import Config
from recoup.http.failures import in_words, why_untrusted
from recoup.trigger.answers import error_text
from recoup.trigger.inventory import ScheduleInventory
from recoup.trigger.outcome import InventoryFailed
from recoup.trigger.schedule import SCHEDULE_ID

WRONG_KEY = (
    "it belongs to another environment or project; if the schedules are really gone, set "
    "TRIGGER_TRUST_MISSING to delete their tasks"
)
NOT_LOOKED_UP = Finding(
    "note", "schedules", "not looked up, because the database can't say what tasks name"
)


def check_trigger(config: Config, stored: Sequence[str] | None) -> Iterator[Finding]:
    """Check that Trigger.dev accepts the key and knows some schedules that tasks name.

    `stored`: those schedules; None if they are not known.
    """
    inventory = ScheduleInventory.of(config)
    found = _check_list(config, inventory)
    yield found
    yield _check_environment(config)
    if stored is None:
        yield NOT_LOOKED_UP
    elif found.verdict == "ok":
        yield _check_stored(config, inventory, stored)


def _check_list(config: Config, inventory: ScheduleInventory) -> Finding:
    try:
        answer = inventory.look(config.trigger_deadline_seconds)
    except requests.RequestException as error:
        reason = in_words(error, config.trigger_deadline_seconds)
        text = f"{config.trigger_api_url} can't be reached: {reason}{_advise(config, error)}"
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
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        text = f"{config.trigger_api_url} doesn't answer as Trigger.dev does"
        return Finding("failed", "Trigger.dev", text)
    return Finding("ok", "Trigger.dev", f"reachable with this key (schedules: {count})")


def _advise(config: Config, error: requests.RequestException) -> str:
    """If the certificate isn't trusted, say why, or name the setting for authorities."""
    why = why_untrusted(error)
    if not why:
        return ""
    if not re.search("self.signed certificate|unable to get local issuer", why):
        return f" ({why.removesuffix('.')})"
    if config.ca_variable:
        return f"; the file of {config.ca_variable} lacks the authority that signed it"
    return "; set REQUESTS_CA_BUNDLE to a file with the authority that signed it"


def _check_environment(config: Config) -> Finding:
    """Compare the key's environment, by its prefix, with TRIGGER_ENVIRONMENT."""
    found = config.trigger_key_environment or "unknown"
    if config.trigger_environment is None:
        text = f"the key's is {found}; set TRIGGER_ENVIRONMENT to check it"
        return Finding("note", "environment", text)
    if found != config.trigger_environment:
        text = f"TRIGGER_ENVIRONMENT is {config.trigger_environment}, but the key's is {found}"
        return Finding("failed", "environment", text)
    return Finding("ok", "environment", f"the key's is {found}, as it should be")


def _check_stored(config: Config, inventory: ScheduleInventory, stored: Sequence[str]) -> Finding:
    """Look up what tasks name: a key of another environment or project knows none of them."""
    if not stored:
        return Finding("note", "schedules", "no enabled task names a schedule to look up")
    try:
        known = sum(bool(SCHEDULE_ID.fullmatch(id_) and inventory.get(id_)) for id_ in stored)
    except InventoryFailed as error:
        return Finding("failed", "schedules", f"can't be looked up: {error}")
    if known:
        text = f"this key knows {known} of {len(stored)} that tasks name"
        if known == len(stored):
            return Finding("ok", "schedules", text)
        return Finding("note", "schedules", f"{text}; `recoup tasks reconcile` lists the others")
    text = f"this key knows none of {len(stored)} that tasks name"
    if config.trigger_trust_missing:
        return Finding(
            "note", "schedules", f"{text}; with TRIGGER_TRUST_MISSING they count as gone"
        )
    return Finding("failed", "schedules", f"{text}; {WRONG_KEY}")
