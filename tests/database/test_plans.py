"""How the databases carry out each statement of a deletion, on tables that have grown.

Without its index a statement reads a whole table, which nobody notices before there are many
rows; so each plan is looked at, on tens of thousands.
"""

import pytest

from benchmarks.seed import seed
from recoup.database import mark_queries, orphan_queries, queries
from recoup.database.built import Statement
from recoup.database.connection import connect, database, execute, is_postgres, release
from recoup.database.expressions import clock, clock_plus
from recoup.database.models import OrphanedSchedule, ScheduledAction, TaskDeletion
from tests.conftest import close_database, make_config

ROWS = 20_000
THERE = {
    name: value
    for name, value in (vars(queries) | vars(mark_queries) | vars(orphan_queries)).items()
    if isinstance(value, Statement)
}
ID = "aade2bce-55c7-468e-a606-c4e76fb2ea2a"
STATEMENTS = {
    "find_key": ("hash",),
    "find_task": (ID, ID, ID),
    "find_standing": (ID,),
    "mark_has_expired": (ID,),
    "take_over_mark": (ID, ID, 23),
    "remove_task": (ID, "sched_x", ID),
    "remove_mark": (ID, ID),
    "expired_marks": (100,),
    "take_over_doubt": (ID, ID, 23),
    "go_forward": (ID, ID, 23),
    "turn_doubtful": (ID, ID),
    "claim_doubt": (ID, ID, -60, 23),
    "sample_schedules": (ID, ID, 10),
    "due_orphans": (100,),
    "claim_orphan": (1, ID, "sched_x", 0, 30),
    "forget_orphan": (1, ID, "sched_x", 1),
    "forget_own_orphan": (ID,),
}
# Each reads a table whole, but the marks and orphans are few, and nobody waits for it.
WHOLE_TABLE = {"count_marks", "count_doubts", "old_doubts", "count_orphans", "hasten_orphans"}
# One row, or none, and no plan.
PLANLESS = {"place_mark", "read_clock", "record_orphan", "hold_collection", "end_collection"}
# On Postgres `account_emails` is the host's, and so are its indexes.
OF_THE_HOST = {"account_of_email"}


@pytest.fixture(scope="module", name="grown", params=["sqlite", "postgres"])
def _grown(request, tmp_path_factory):
    """A database with many tasks, keys, members, marks and orphans."""
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        server.create_database("grown")
        url = server.url("grown")
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('grown')}/recoup.sqlite3"
    seed(url, tasks=ROWS, members=ROWS)
    connect(make_config(url))
    task_id = ScheduledAction.id
    marks = ScheduledAction.select(task_id, task_id, clock(), clock_plus(60)).limit(5000)
    mark = TaskDeletion
    mark.insert_from(
        marks, [mark.task, mark.token, mark.requested_at, mark.lease_expires_at]
    ).execute()
    orphan = OrphanedSchedule
    orphans = ScheduledAction.select(task_id, clock(), clock_plus(60), 0)
    orphan.insert_from(
        orphans, [orphan.task_id, orphan.orphaned_at, orphan.due_at, orphan.attempts]
    ).execute()
    execute("ANALYZE")
    release()
    yield
    close_database()


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_finds_its_rows_by_an_index(grown, name):
    """No statement of a request or a recovery reads a whole table."""
    explain = "EXPLAIN" if is_postgres() else "EXPLAIN QUERY PLAN"
    sql, params = THERE[name].bind(*STATEMENTS[name])
    rows = database.execute_sql(f"{explain} {sql}", params).fetchall()
    release()
    plan = "\n".join(str(row[-1]) for row in rows)
    assert "Seq Scan" not in plan
    assert "SCAN" not in plan.replace("SCAN CONSTANT ROW", "")
    assert any(word in plan for word in ("Index", "INDEX", "INTEGER PRIMARY KEY"))


def test_no_statement_is_forgotten():
    """Each one is checked here, or listed with the reason why not."""
    assert THERE.keys() == {*STATEMENTS} | WHOLE_TABLE | PLANLESS | OF_THE_HOST
