"""The world: the real database, put into a state before each statement, and the stand-in's API.

As both do the same whenever they are in the same state, what they did is remembered.
"""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from recoup.database import sqlite
from recoup.database.connection import DatabaseFailed, connect, release
from recoup.database.migrations import upgrade
from recoup.demo.messages import ROOT, Request
from recoup.demo.schedules import SchedulesAPI
from tests.conftest import close_database, make_config
from tests.model.state import (
    COLUMNS,
    FOREIGN,
    OTHER_TASK,
    SCHEDULES,
    TASK,
    Broken,
    Collector,
    Mark,
    Orphan,
    Row,
    Tables,
    make_row,
)

KEY = "tr_dev_standin"
OTHER_KEY = "tr_prod_standin"
# It answers nothing but how long something took.
MOMENT = "2026-01-01T00:00:00.000Z"


class Database:
    """A file of SQLite that has one task, with what is noted of it, and another task."""

    def __init__(self, folder: Any, patch: Any) -> None:
        patch.setitem(sqlite.PRAGMAS, "synchronous", "off")
        path = f"{folder}/model.sqlite3"
        connect(make_config(f"sqlite:///{path}"))
        upgrade()
        self._raw = sqlite3.connect(path, isolation_level=None)
        self._raw.execute("PRAGMA foreign_keys = 1")
        self._insert("scheduled_actions", COLUMNS, make_row(OTHER_TASK, FOREIGN))
        self._known: dict[Any, tuple[Any, Tables]] = {}

    def close(self) -> None:
        self._raw.close()
        close_database()

    def run(self, tables: Tables, step: Any) -> tuple[Any, Tables]:
        """Run a statement of ours; return its rows, their number or its exception, and the tables.

        Raises:
            Broken: it touched what is another's.
        """

        def run() -> Any:
            try:
                return _without_instants(step.call[0](*step.call[1:]))
            except DatabaseFailed as error:
                return type(error)
            finally:
                release()

        said, after = self._remember(tables, step, run)
        _check_lock(tables, after, step.values)
        return said, after

    def change(self, tables: Tables, sql: str, *params: object) -> Tables:
        """Run a statement of another program; return what is then."""
        run = lambda: self._raw.execute(sql, params)  # noqa: E731
        return self._remember(tables, (sql, params), run)[1]

    def _remember(self, tables: Tables, what: Any, run: Callable[[], Any]) -> tuple[Any, Tables]:
        if (tables, what) not in self._known:
            self._load(tables)
            said = run()
            self._known[tables, what] = said, self._read()
        return self._known[tables, what]

    def _load(self, tables: Tables) -> None:
        self._raw.execute("DELETE FROM scheduled_actions WHERE id = ?", (TASK,))
        for table in ("task_deletions", "orphaned_schedules", "orphan_collector"):
            self._raw.execute(f"DELETE FROM {table}")
        row, mark, orphans, collector = tables
        if row:
            self._insert("scheduled_actions", COLUMNS, row)
        if mark:
            doubt = {None: None, "young": _instant(0), "old": _instant(-3600)}[mark.doubt]
            values = (TASK, mark.token, _instant(-3600), _lease(mark.leased), doubt)
            self._insert("task_deletions", MARK, values)
        for id, schedule, attempts, due in orphans:
            values = (id, TASK, schedule, attempts, _lease(not due), _instant(-3600))
            self._insert("orphaned_schedules", ORPHAN, values)
        if collector:
            values = (1, collector.token, _lease(collector.leased))
            self._insert("orphan_collector", COLLECTOR, values)

    def _read(self) -> Tables:
        rows = self._select("scheduled_actions", COLUMNS, f"WHERE id = '{TASK}'")
        marks = map(_read_mark, self._select("task_deletions", MARK))
        orphans = map(_read_orphan, self._select("orphaned_schedules", ORPHAN))
        collectors = self._select("orphan_collector", COLLECTOR)
        leases = (Collector(token, lease > _instant(0)) for _, token, lease in collectors)
        return Tables(next(iter(rows), None), next(marks, None), tuple(orphans), next(leases, None))

    def _insert(self, table: str, columns: list[str], row: Row) -> None:
        marks = ", ".join("?" * len(row))
        self._raw.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", row)

    def _select(self, table: str, columns: list[str], where: str = "") -> list[Row]:
        return self._raw.execute(f"SELECT {', '.join(columns)} FROM {table} {where}").fetchall()


MARK = ["task_id", "token", "requested_at", "lease_expires_at", "doubtful_since"]
ORPHAN = ["id", "task_id", "trigger_schedule_id", "attempts", "due_at", "orphaned_at"]
COLLECTOR = ["id", "token", "lease_expires_at"]


def _instant(seconds: float) -> str:
    instant = datetime.now(UTC) + timedelta(seconds=seconds)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lease(runs: bool) -> str:
    return _instant(30 if runs else -3600)


def _read_mark(row: Row) -> Mark:
    _, token, _, lease, since = row
    doubt = since and ("young" if since > _instant(-60) else "old")
    return Mark(token, lease > _instant(0), doubt)


def _read_orphan(row: Row) -> Orphan:
    id, _, schedule, attempts, due, _ = row
    return Orphan(id, schedule, attempts, due <= _instant(0))


def _without_instants(said: Any) -> Any:
    if not isinstance(said, list):
        return said
    return tuple(tuple(MOMENT if str(v).endswith("Z") else v for v in row) for row in said)


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
    """Trigger.dev's API; with a `key` of another environment it knows no schedule."""

    def __init__(self) -> None:
        self._api = SchedulesAPI(KEY, other_keys=[OTHER_KEY])
        made = self._api.schedules[self._api.add(TASK)]
        self._schedules = {id: {**made, "id": id, **own} for id, own in SCHEDULES.items()}
        self._known: dict[Any, Any] = {}
        self.key = KEY

    def answer(
        self, alive: frozenset[str], method: str, key: str
    ) -> tuple[tuple[int, bytes], frozenset[str]]:
        """Return status and body, and the schedules that are alive then."""
        asked = (alive, method, key, self.key)
        if asked not in self._known:
            self._api.schedules = {id: self._schedules[id] for id in alive}
            headers = {"authorization": f"Bearer {self.key}"}
            answer = self._api.answer(Request(method, f"{ROOT}/{key}", headers))
            said = answer.status, answer.body
            self._known[asked] = said, frozenset(self._api.schedules)
        return self._known[asked]
