"""The statements of a deletion. Each is a function that may raise `DatabaseFailed`.

They run with every request, so their queries, in `queries.py` and `mark_queries.py`, are built
only once. All other code uses the models as usual. To add a statement, write its query there, with
an argument for each value of a call. Then write the function that runs it here, under the same
name:

    @Statement
    def remove_mark(task_id: Node, token: Node) -> peewee.BaseQuery:
        return TaskDeletion.delete().where(
            TaskDeletion.task == task_id, TaskDeletion.token == token
        )

    def remove_mark(task_id: str, token: str) -> bool:
        return mark_queries.remove_mark.execute(task_id, token) == 1

`tests/database/test_plans.py` then asks for its plan. Values are not converted: ids are canonical
UUID text, which both databases accept for their own type.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid4

from recoup.database import mark_queries, orphan_queries, queries
from recoup.database.built import Statement
from recoup.database.connection import execute_both, is_postgres


class Key(NamedTuple):
    """An API key: its own id, and its account's."""

    id: str
    account: str
    expired: bool


class Task(NamedTuple):
    """A task's schedule, whether the caller may delete it, its account and its title's length."""

    schedule_id: str | None
    allowed: bool
    owner: str
    title_length: int


class Standing(NamedTuple):
    """Where a deletion stands: the row as it is now, and the token and requester of its mark."""

    schedule_id: str | None
    token: str | None
    requested_by: str | None
    owner: str
    title_length: int


def find_key(key_hash: str) -> Key | None:
    """Return the API key with this hash; of several, one that has not expired."""
    rows = queries.find_key.fetch(key_hash)
    return Key(str(rows[0][0]), str(rows[0][1]), not rows[0][2]) if rows else None


def account_of_email(email: str) -> str | None:
    """Return the account that has this e-mail address; of several, the oldest entry's."""
    rows = queries.account_of_email.fetch(email)
    return str(rows[0][0]) if rows else None


def find_task(task_id: str, caller: str, admin_organization: str | None) -> Task | None:
    """Return the task, and whether `caller` may act for its account; see `scope.py`."""
    for schedule, allowed, owner, length in queries.find_task.fetch(
        task_id, caller, admin_organization
    ):
        return Task(schedule, bool(allowed), str(owner), length)
    return None


def find_standing(task_id: str) -> Standing | None:
    """Return where the task's deletion stands; None if there is no such task."""
    for schedule, token, requester, owner, length in queries.find_standing.fetch(task_id):
        return Standing(schedule, _text(token), _text(requester), str(owner), length)
    return None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def place_mark(task_id: str, token: str, caller: str | None, lease_seconds: float) -> bool:
    """Mark the task as being deleted, unless it is marked already.

    Raises:
        ConstraintFailed: there is no such task any more.
    """
    return mark_queries.place_mark.execute(task_id, token, caller, lease_seconds) == 1


def mark_has_expired(task_id: str) -> bool | None:
    """Return whether the task's mark is free to be taken over; None if there is no mark."""
    rows = mark_queries.mark_has_expired.fetch(task_id)
    return bool(rows[0][0]) if rows else None


def take_over_mark(task_id: str, token: str, lease_seconds: float) -> bool:
    """Put our token on an expired mark; of several that try at once, one succeeds."""
    return mark_queries.take_over_mark.execute(task_id, token, lease_seconds) == 1


def take_over_doubt(task_id: str, token: str, lease_seconds: float) -> bool:
    """Put our token on a doubtful mark, which is then no longer doubtful."""
    return mark_queries.take_over_doubt.execute(task_id, token, lease_seconds) == 1


def turn_doubtful(task_id: str, token: str) -> bool:
    """Turn our mark doubtful, from now on; False if it is no longer ours."""
    return mark_queries.turn_doubtful.execute(task_id, token) == 1


def claim_doubt(task_id: str, token: str, age_seconds: float, lease_seconds: float) -> bool:
    """Put our token on a doubt that is this old and that nobody looks at; it stays a doubt."""
    return mark_queries.claim_doubt.execute(task_id, token, -age_seconds, lease_seconds) == 1


def go_forward(task_id: str, token: str, lease_seconds: float) -> bool:
    """End the doubt of our mark, to complete the deletion; False if it is no longer ours."""
    return mark_queries.go_forward.execute(task_id, token, lease_seconds) == 1


def remove_task(task_id: str, schedule_id: str | None, token: str) -> bool:
    """Delete the row, and by cascade its mark, if the mark and the schedule are still ours.

    The guard keeps no record of such a row. On Postgres its trigger is told. On SQLite it can't be,
    so its record is removed in the same transaction.
    """
    if is_postgres():
        return queries.remove_task.execute(task_id, schedule_id, token) == 1
    removal = queries.remove_task.bind(task_id, schedule_id, token)
    return execute_both(removal, orphan_queries.forget_own_orphan.bind(task_id)) == 1


def remove_mark(task_id: str, token: str) -> bool:
    """Take our mark off the task; False if it is no longer ours."""
    return mark_queries.remove_mark.execute(task_id, token) == 1


def expired_marks(limit: int) -> list[str]:
    """Return the tasks whose marks have expired, the longest expired first."""
    return [str(row[0]) for row in mark_queries.expired_marks.fetch(limit)]


def old_doubts(age_seconds: float, limit: int) -> list[str]:
    """Return the tasks whose doubts are this old; the one that was looked at longest ago first."""
    return [str(row[0]) for row in mark_queries.old_doubts.fetch(-age_seconds, limit)]


def count_marks() -> tuple[int, float]:
    """Return how many deletions have begun and not ended, and the age of the oldest in seconds.

    The age is 0 without any, and if the clock was set back to before the oldest.
    """
    return count_rows(mark_queries.count_marks)


def count_doubts() -> tuple[int, float]:
    """Return how many deletions are in doubt, and the age of the oldest doubt in seconds."""
    return count_rows(mark_queries.count_doubts)


def count_rows(statement: Statement) -> tuple[int, float]:
    """Return how many rows there are, and the age of the oldest in seconds; 0 without any."""
    [(count, oldest, now)] = statement.fetch()
    return count, seconds_between(oldest, now) if count else 0.0


def seconds_between(earlier: object, later: object) -> float:
    """Return the seconds between two of the database's instants; never less than 0."""
    return max((_instant(later) - _instant(earlier)).total_seconds(), 0.0)


def sample_schedules(task_id: str, limit: int) -> list[str]:
    """Return schedules that other enabled tasks name; different ones each time."""
    rows = queries.sample_schedules.fetch(task_id, str(uuid4()), limit)
    if len(rows) < limit:
        rows = queries.sample_schedules.fetch(task_id, str(UUID(int=0)), limit)
    return [row[0].strip() for row in rows]


def read_clock() -> datetime:
    """Return the database's time."""
    [(now,)] = queries.read_clock.fetch()
    return _instant(now)


def _instant(value: object) -> datetime:
    return datetime.fromisoformat(str(value))
