"""What is explored: all that matters at one moment, as a value, and the world that acts on it.

The world is the real database, which is put into a state before each statement, and the stand-in's
API, likewise. As both always do the same from the same state, what they did is remembered.
"""

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from recoup.database import sqlite
from recoup.database.built import Statement
from recoup.database.connection import DatabaseFailed, connect, release
from recoup.database.migrations import upgrade
from recoup.database.models import ScheduledAction, TaskDeletion, column_names, table_name
from recoup.demo.messages import ROOT, Request
from recoup.demo.schedules import SchedulesAPI
from tests.conftest import close_database, make_config

KEY = "tr_dev_standin"
TASK = "00000000-0000-0000-0000-000000000001"
OTHER_TASK = "00000000-0000-0000-0000-000000000002"
# What a schedule is found by besides its id, and whose it is.
SCHEDULES = {
    "sched_first": {"deduplicationKey": TASK, "externalId": TASK},
    "sched_host": {"deduplicationKey": "of-the-host", "externalId": TASK},
    "sched_again": {"deduplicationKey": TASK, "externalId": TASK},
    "sched_other": {"deduplicationKey": OTHER_TASK, "externalId": OTHER_TASK},
}
OTHERS = "sched_other"

Row = tuple[Any, ...]


def is_own(schedule: str) -> bool:
    """Whether a schedule says that it is the task's."""
    return SCHEDULES[schedule]["externalId"] == TASK


class Mark(NamedTuple):
    """`leased`: its lease runs; `doubt`: none, or one that is "young" or "old"."""

    token: str
    leased: bool
    doubt: str | None


class Tables(NamedTuple):
    """The task's row, to the last column, and its mark."""

    row: Row | None
    mark: Mark | None

    @property
    def named(self) -> str | None:
        """The schedule that the row names."""
        return self.row[COLUMNS.index("trigger_schedule_id")] if self.row else None


# As they are before an actor's stand in for them.
_RUN = {"fetch": Statement.fetch, "execute": Statement.execute}
COLUMNS = column_names(ScheduledAction)
_TASKS, _MARKS = table_name(ScheduledAction), table_name(TaskDeletion)
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM {_TASKS} WHERE id = ?"
_INSERT = f"INSERT INTO {_TASKS} ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_MARK_COLUMNS = "task_id, token, requested_at, lease_expires_at, doubtful_since"


class State(NamedTuple):
    """All that matters at one moment.

    `alive`: the schedules at Trigger.dev; `owned`: those that have to go with the row; `killed`:
    those that we cancelled, each with the actor that did, while it still works.
    `actors`: where each is, None for one that has ended; `flying`: requests, and `late`:
    statements, that were given up and may act yet; `others`: what another program may do yet.
    `taken`: the row went by another's hand; `remade`: and another was made by one.
    """

    tables: Tables
    alive: frozenset[str]
    owned: frozenset[str]
    actors: tuple[Any, ...]
    others: tuple[str, ...]
    faults: int
    crashes: int
    leases: int
    ages: int
    killed: frozenset[tuple[str, str]] = frozenset()
    flying: tuple[tuple[str, str], ...] = ()
    late: tuple[Any, ...] = ()
    taken: bool = False
    remade: bool = False


class Broken(Exception):
    """A promise does not hold."""


class Database:
    """A file of SQLite that has one task, its mark, and another task with a schedule."""

    def __init__(self, folder: Any, patch: Any) -> None:
        patch.setitem(sqlite.PRAGMAS, "synchronous", "off")
        path = f"{folder}/model.sqlite3"
        connect(make_config(f"sqlite:///{path}"))
        upgrade()
        self._raw = sqlite3.connect(path, isolation_level=None)
        self._raw.execute("PRAGMA foreign_keys = 1")
        self._raw.execute(_INSERT, make_row(OTHER_TASK, OTHERS))
        self._current: Tables | None = None
        self._known: dict[Any, Any] = {}

    def close(self) -> None:
        self._raw.close()
        close_database()

    def run(self, tables: Tables, step: Any) -> tuple[Any, Tables]:
        """Run a real statement; return its rows, their number or its exception, and what is then.

        Raises:
            Broken: it touched what is another's.
        """
        if (tables, step) not in self._known:
            self._load(tables)
            try:
                said = _RUN[step.how](step.statement, *step.values)
            except DatabaseFailed as error:
                said = type(error)
            release()
            after = self._read()
            _check_lock(tables, after, step.values)
            self._known[tables, step] = tuple(said) if isinstance(said, list) else said, after
        return self._known[tables, step]

    def change(self, tables: Tables, sql: str, *params: object) -> Tables:
        """Run a statement of another program."""
        if (tables, sql, params) not in self._known:
            self._load(tables)
            self._raw.execute(sql, params)
            self._known[tables, sql, params] = self._read()
        return self._known[tables, sql, params]

    def _load(self, tables: Tables) -> None:
        self._raw.execute(f"DELETE FROM {_MARKS}")
        self._raw.execute(f"DELETE FROM {_TASKS} WHERE id = ?", (TASK,))
        if tables.row:
            self._raw.execute(_INSERT, tables.row)
        if tables.mark:
            lease = _in(20 if tables.mark.leased else -3600)
            doubt = {None: None, "young": _in(0), "old": _in(-3600)}[tables.mark.doubt]
            self._raw.execute(
                f"INSERT INTO {_MARKS} ({_MARK_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
                (TASK, tables.mark.token, _in(-3600), lease, doubt),
            )

    def _read(self) -> Tables:
        marks = self._raw.execute(f"SELECT {_MARK_COLUMNS} FROM {_MARKS}").fetchall()
        mark = None
        for _, token, _, lease, since in marks:
            doubt = since and ("young" if since > _in(-60) else "old")
            mark = Mark(token, lease > _in(0), doubt)
        return Tables(self._raw.execute(_SELECT, (TASK,)).fetchone(), mark)


def _in(seconds: float) -> str:
    instant = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    return instant.replace("+00:00", "Z")


def make_row(task_id: str, schedule: str | None) -> Row:
    values = {name: name for name in COLUMNS} | {
        "id": task_id,
        "enabled": 1,
        "trigger_schedule_id": schedule,
    }
    return tuple(values[name] for name in COLUMNS)


def _check_lock(before: Tables, after: Tables, values: Row) -> None:
    """Hold what a statement of ours did against the mark that stood before it."""
    if after.row not in (before.row, None):
        raise Broken("2: a statement of ours changed the row")
    mark = before.mark
    is_owners = mark is not None and mark.token in values
    if before.row and not after.row and not is_owners:
        raise Broken("the row was deleted by one that has no mark on it")
    if after.row and mark and not after.mark and not is_owners:
        raise Broken("a mark was removed by one that does not own it")
    taken = mark and after.mark and mark.token != after.mark.token
    if taken and mark.leased and not (mark.doubt and not after.mark.doubt):
        raise Broken("a mark was taken over within its lease")


class Trigger:
    """Trigger.dev's API; `knows_key`: or the secret key is of another environment."""

    def __init__(self) -> None:
        self._api = SchedulesAPI(KEY, other_keys=["tr_prod_standin"])
        self._schedules = {
            id: {**self._schedule(), "id": id, **fields} for id, fields in SCHEDULES.items()
        }
        self._known: dict[Any, Any] = {}
        self.key = KEY

    def _schedule(self) -> dict[str, Any]:
        return self._api.schedules[self._api.add(TASK)]

    def answer(
        self, alive: frozenset[str], method: str, key: str
    ) -> tuple[tuple[int, bytes], frozenset[str]]:
        """Return status and body, and the schedules that are alive then."""
        asked = (alive, method, key, self.key)
        if asked not in self._known:
            self._api.schedules = {id: self._schedules[id] for id in sorted(alive)}
            headers = {"authorization": f"Bearer {self.key}"}
            answer = self._api.answer(Request(method, f"{ROOT}/{key}", headers))
            said = answer.status, answer.body
            self._known[asked] = said, frozenset(self._api.schedules)
        return self._known[asked]
