"""How the databases carry out each statement of a deletion, on tables that have grown.

Without its index a statement reads a whole table, which nobody notices before there are many
rows; so each plan is looked at, on tens of thousands.
"""

import pytest

from benchmarks.seed import seed
from recoup.database import statements
from recoup.database.connection import _translate, connect, database, execute, is_postgres, release
from tests.conftest import close_database, make_config

ROWS = 20_000
ID = "aade2bce-55c7-468e-a606-c4e76fb2ea2a"
STATEMENTS = {
    "ACCOUNT_OF_KEY": ("hash",),
    "FIND_TASK": (ID, ID, ID, ID),
    "FIND_STANDING": (ID,),
    "MARK_HAS_EXPIRED": (ID,),
    "TAKE_OVER_MARK": (ID, 23, ID),
    "REMOVE_TASK": (ID, "sched_x", ID, ID),
    "REMOVE_MARK": (ID, ID),
    "EXPIRED_MARKS": (100,),
}
# Reads a table whole, but the marks are few, and nobody waits for it.
WHOLE_TABLE = {"COUNT_MARKS"}
# One row, and no plan.
INSERTS = {"PLACE_MARK"}
# On Postgres `account_emails` is the host's, and so are its indexes.
OF_THE_HOST = {"ACCOUNT_OF_EMAILS"}


@pytest.fixture(scope="module", name="grown", params=["sqlite", "postgres"])
def _grown(request, tmp_path_factory):
    """A database with many tasks, keys, members and marks."""
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        server.create_database("grown")
        url = server.url("grown")
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('grown')}/recoup.sqlite3"
    seed(url, tasks=ROWS, members=ROWS)
    connect(make_config(url))
    execute(
        "INSERT INTO task_deletions SELECT id, id, NULL, {now}, {now_plus}"
        " FROM scheduled_actions LIMIT 5000",
        60,
    )
    execute("ANALYZE")
    release()
    yield
    close_database()


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_finds_its_rows_by_an_index(grown, name):
    """No statement on a request's way, nor of a recovery, reads a table whole."""
    explain = "EXPLAIN" if is_postgres() else "EXPLAIN QUERY PLAN"
    sql = _translate(f"{explain} {getattr(statements, name)}", is_postgres())
    rows = database.execute_sql(sql, STATEMENTS[name]).fetchall()
    release()
    plan = "\n".join(str(row[-1]) for row in rows)
    assert "Seq Scan" not in plan
    assert "SCAN" not in plan.replace("SCAN CONSTANT ROW", "")
    assert "Index" in plan or "INDEX" in plan


def test_no_statement_is_forgotten():
    """Each one in `statements.py` is looked at here, or named with the reason why not."""
    there = {name for name, value in vars(statements).items() if name.isupper()}
    assert there == {*STATEMENTS} | WHOLE_TABLE | INSERTS | OF_THE_HOST
