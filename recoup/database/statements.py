"""The SQL of a deletion, all of it, as text.

Building a statement with peewee costs about three times what running it does, and these run
with every request; everything else uses the models. Ids are canonical UUID text, which both
databases take for their own type. Each function is one statement and may raise `DatabaseFailed`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from recoup.database.connection import execute, fetch


class Task(NamedTuple):
    """A task's schedule, and whether the caller may delete it."""

    schedule_id: str | None
    allowed: bool


class Standing(NamedTuple):
    """Where a deletion stands: the row's schedule now, and the token on the mark, if any."""

    schedule_id: str | None
    token: str | None


def account_of_key(key_hash: str) -> str | None:
    """Return the account of an API key that has not expired."""
    rows = fetch(ACCOUNT_OF_KEY, key_hash)
    return str(rows[0][0]) if rows else None


ACCOUNT_OF_KEY = """
SELECT account FROM account_api_keys
WHERE key_hash = ? AND account IS NOT NULL
  AND (expires_at IS NULL OR {instant}(expires_at) > {instant}({now}))
LIMIT 1
"""


def account_of_emails(emails: Sequence[str]) -> str | None:
    """Return the account that one of `emails` belongs to; of several, the oldest entry's."""
    marks = ", ".join("?" for _ in emails)
    rows = fetch(ACCOUNT_OF_EMAILS.replace("...", marks), *emails)
    return str(rows[0][0]) if rows else None


ACCOUNT_OF_EMAILS = """
SELECT account_id FROM account_emails WHERE email IN (...)
ORDER BY updated_at LIMIT 1
"""


def find_task(task_id: str, caller: str, admin_organization: str | None) -> Task | None:
    """Return the task, and whether `caller` may act for its account.

    It may for itself, for an account it shares an organization with, and, as a member of
    `admin_organization`, for everybody.
    """
    rows = fetch(FIND_TASK, caller, caller, admin_organization, task_id)
    return Task(rows[0][0], bool(rows[0][1])) if rows else None


FIND_TASK = """
SELECT t.trigger_schedule_id,
       t.account_id = ?
       OR EXISTS (SELECT 1 FROM account_organization_ids mine
                  WHERE mine.account_id = ?
                    AND (mine.organization_id = ?
                         OR EXISTS (SELECT 1 FROM account_organization_ids theirs
                                    WHERE theirs.account_id = t.account_id
                                      AND theirs.organization_id = mine.organization_id)))
FROM scheduled_actions t WHERE t.id = ?
"""


def find_standing(task_id: str) -> Standing | None:
    """Return where the task's deletion stands; None if there is no such task."""
    rows = fetch(FIND_STANDING, task_id)
    return Standing(rows[0][0], rows[0][1] and str(rows[0][1])) if rows else None


FIND_STANDING = """
SELECT t.trigger_schedule_id, m.token
FROM scheduled_actions t LEFT JOIN task_deletions m ON m.task_id = t.id
WHERE t.id = ?
"""


def place_mark(task_id: str, token: str, caller: str | None, lease_seconds: float) -> bool:
    """Mark the task as being deleted, unless it is marked already.

    Raises:
        ConstraintFailed: there is no such task any more.
    """
    return execute(PLACE_MARK, task_id, token, caller, lease_seconds) == 1


PLACE_MARK = """
INSERT INTO task_deletions (task_id, token, requested_by, requested_at, lease_expires_at)
VALUES (?, ?, ?, {now}, {now_plus})
ON CONFLICT (task_id) DO NOTHING
"""


def mark_has_expired(task_id: str) -> bool | None:
    """Return whether the task's mark is free to be taken over; None if there is no mark."""
    rows = fetch(MARK_HAS_EXPIRED, task_id)
    return bool(rows[0][0]) if rows else None


MARK_HAS_EXPIRED = "SELECT lease_expires_at <= {now} FROM task_deletions WHERE task_id = ?"


def take_over_mark(task_id: str, token: str, lease_seconds: float) -> bool:
    """Put our token on an expired mark; of several that try at once, one succeeds."""
    return execute(TAKE_OVER_MARK, token, lease_seconds, task_id) == 1


TAKE_OVER_MARK = """
UPDATE task_deletions SET token = ?, lease_expires_at = {now_plus}
WHERE task_id = ? AND lease_expires_at <= {now}
"""


def remove_task(task_id: str, schedule_id: str | None, token: str) -> bool:
    """Delete the row, and by cascade its mark, if the mark and the schedule are still ours."""
    return execute(REMOVE_TASK, task_id, schedule_id, task_id, token) == 1


REMOVE_TASK = """
DELETE FROM scheduled_actions
WHERE id = ? AND trigger_schedule_id IS NOT DISTINCT FROM ?
  AND EXISTS (SELECT 1 FROM task_deletions WHERE task_id = ? AND token = ?)
"""


def remove_mark(task_id: str, token: str) -> bool:
    """Take our mark off the task; False if it is no longer ours."""
    return execute(REMOVE_MARK, task_id, token) == 1


REMOVE_MARK = "DELETE FROM task_deletions WHERE task_id = ? AND token = ?"


def expired_marks(limit: int) -> list[str]:
    """Return the tasks whose marks have expired, the longest expired first."""
    rows = fetch(EXPIRED_MARKS, limit)
    return [str(row[0]) for row in rows]


EXPIRED_MARKS = """
SELECT task_id FROM task_deletions WHERE lease_expires_at <= {now}
ORDER BY lease_expires_at LIMIT ?
"""


def count_marks() -> tuple[int, float]:
    """Return how many marks there are, and how many seconds ago the oldest was placed."""
    [(count, oldest, now)] = fetch(COUNT_MARKS)
    return count, (_instant(now) - _instant(oldest)).total_seconds() if count else 0.0


COUNT_MARKS = "SELECT count(*), min(requested_at), {now} FROM task_deletions"


def read_clock() -> datetime:
    """Return the database's time."""
    [(now,)] = fetch("SELECT {now}")
    return _instant(now)


def _instant(value: datetime | str) -> datetime:
    return datetime.fromisoformat(str(value))
