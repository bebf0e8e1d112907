"""The guard's triggers: what they record, for whom, and that they hinder nobody."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import uuid4

import psycopg
import pytest

from recoup.database import guard, orphans, statements
from recoup.database.connection import DatabaseFailed, connect, execute, fetch, release
from recoup.database.migrations import upgrade
from tests.conftest import close_database, make_config
from tests.host import HostConnection
from tests.postgres import find_binaries

OTHER = "the_other_program"
BROKEN = {
    "ALTER TABLE scheduled_actions DISABLE TRIGGER recoup_guard": "The trigger recoup_guard is",
    "ALTER TABLE scheduled_actions ENABLE REPLICA TRIGGER recoup_guard": "The trigger recoup_guard",
    "DROP TRIGGER recoup_guard_truncate ON scheduled_actions": "recoup_guard_truncate is missing",
    "DROP FUNCTION recoup_guard() CASCADE": "",
    "CREATE OR REPLACE FUNCTION recoup_guard() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
    "AS 'BEGIN RETURN NULL; END'": "is not the one that this version makes",
    "ALTER FUNCTION recoup_guard() SECURITY INVOKER": "may not insert",
    "ALTER FUNCTION recoup_guard() RESET search_path": "is not the one that this version makes",
    "ALTER FUNCTION recoup_guard() SET lock_timeout = '9s'": "is not the one that this version",
    "ALTER TABLE scheduled_actions RENAME TO old_actions; "
    "CREATE TABLE scheduled_actions (LIKE old_actions INCLUDING ALL)": "",
}


@pytest.fixture(name="host")
def _host(database_url):
    """The host's own connection to a database that has the guard."""
    connect(make_config(database_url))
    if database_url.startswith("postgres"):
        guard.turn_on()
    release()
    with closing(HostConnection(database_url)) as host:
        yield host


@pytest.fixture(name="pg")
def _pg(postgres_url):
    """The same on Postgres alone."""
    connect(make_config(postgres_url))
    guard.turn_on()
    release()
    with closing(HostConnection(postgres_url)) as host:
        yield host


def recorded(host):
    """Return the task and the schedule of each record, in the order of their making."""
    rows = host.run("SELECT task_id, trigger_schedule_id FROM orphaned_schedules ORDER BY id")
    return [(str(task), schedule) for task, schedule in rows]


def is_due(task):
    """Whether the task's record is due now."""
    due = {orphan.task_id for orphan in orphans.due_orphans(100)}
    release()
    return task in due


def test_a_row_that_is_deleted_is_recorded(host):
    """With the schedule that it named, and due at once."""
    task = host.task("sched_1")
    host.run("DELETE FROM scheduled_actions WHERE id = ?", task)
    assert recorded(host) == [(task, "sched_1")]
    assert is_due(task)


@pytest.mark.parametrize("named", [None, ""])
def test_a_row_that_names_none_is_due_in_a_minute(host, named):
    """It may be about to get one."""
    task = host.task(named)
    host.run("DELETE FROM scheduled_actions WHERE id = ?", task)
    assert recorded(host) == [(task, named)]
    assert not is_due(task)


def test_rows_that_go_in_one_statement_are_all_recorded(host):
    """A thousand of two accounts, and no other."""
    tasks = {host.task(f"sched_{n}") for n in range(1000)}
    kept = host.task("sched_kept")
    host.run("DELETE FROM scheduled_actions WHERE id <> ?", kept)
    assert {task for task, _ in recorded(host)} == tasks


def test_a_delete_that_is_rolled_back_is_not_recorded(host):
    """The record is made in the deleter's own transaction."""
    task = host.task("sched_1")
    host.run("BEGIN")
    host.run("DELETE FROM scheduled_actions WHERE id = ?", task)
    host.run("ROLLBACK")
    assert recorded(host) == []


def test_a_deletion_of_ours_is_not_recorded(host):
    """It has cancelled already."""
    task, token = host.task("sched_1"), str(uuid4())
    statements.place_mark(task, token, None, 60)
    assert statements.remove_task(task, "sched_1", token)
    release()
    assert recorded(host) == []
    assert host.run("SELECT 1 FROM scheduled_actions") == []


def test_a_deletion_of_ours_leaves_older_records(host):
    """The row had been deleted by another, and put back."""
    task, token = host.task("sched_1"), str(uuid4())
    host.run("DELETE FROM scheduled_actions WHERE id = ?", task)
    host.task("sched_2", task)
    statements.place_mark(task, token, None, 60)
    assert not statements.remove_task(task, "sched_1", token)
    assert statements.remove_task(task, "sched_2", token)
    release()
    assert recorded(host) == [(task, "sched_1")]


def test_a_row_with_our_mark_that_another_deletes_is_recorded(host):
    """The mark's owner may have died, or may not know the last schedule."""
    task = host.task("sched_1")
    statements.place_mark(task, str(uuid4()), None, 60)
    release()
    host.run("DELETE FROM scheduled_actions WHERE id = ?", task)
    assert recorded(host) == [(task, "sched_1")]


@pytest.mark.parametrize("of_the_same", [False, True], ids=["another task", "the same task"])
def test_a_record_with_the_id_of_one_that_is_gone_is_another(host, of_the_same):
    """SQLite gives an id again. Who listed the first record must not claim the second one."""
    task = host.task("sched_1")
    host.run("DELETE FROM scheduled_actions WHERE id = ?", task)
    [listed], [too_late] = orphans.due_orphans(10), orphans.due_orphans(10)
    assert orphans.claim_orphan(listed, 30)
    orphans.forget_orphan(listed)
    release()
    second = host.task("sched_2", *([task] if of_the_same else []))
    host.run("DELETE FROM scheduled_actions WHERE id = ?", second)
    assert not orphans.claim_orphan(too_late, 30)
    orphans.forget_orphan(listed)
    release()
    assert recorded(host) == [(second, "sched_2")]


# Postgres


def test_a_cascade_is_recorded(pg):
    """The account goes, and with it its tasks: those it owns, and those it is the artist of."""
    tasks = {pg.task(f"sched_{n}") for n in range(1000)}
    other = pg.run("INSERT INTO accounts (name) VALUES ('o') RETURNING id")[0][0]
    pg.run("UPDATE scheduled_actions SET account_id = ? WHERE id = ?", other, min(tasks))
    pg.run("DELETE FROM accounts")
    assert {task for task, _ in recorded(pg)} == tasks
    assert len(recorded(pg)) == 1000


def test_what_a_trigger_of_the_hosts_deletes_with_ours_is_recorded(pg):
    """We have cancelled for one row; the other is somebody else's doing."""
    pg.run(
        "CREATE FUNCTION twins() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN DELETE FROM scheduled_actions WHERE title = OLD.id::text; RETURN OLD; END$$"
    )
    pg.run(
        "CREATE TRIGGER twins AFTER DELETE ON scheduled_actions "
        "FOR EACH ROW EXECUTE FUNCTION twins()"
    )
    task, twin, token = pg.task("sched_1"), pg.task("sched_2"), str(uuid4())
    pg.run("UPDATE scheduled_actions SET title = ? WHERE id = ?", task, twin)
    statements.place_mark(task, token, None, 60)
    assert statements.remove_task(task, "sched_1", token)
    release()
    assert recorded(pg) == [(twin, "sched_2")]


def test_truncate_is_recorded(pg):
    """No row trigger sees it. What named no schedule is due in a minute here, too."""
    task, unnamed = pg.task("sched_1"), pg.task(None)
    pg.run("TRUNCATE scheduled_actions CASCADE")
    assert sorted(recorded(pg)) == sorted([(task, "sched_1"), (unnamed, None)])
    assert (is_due(task), is_due(unnamed)) == (True, False)


def test_whoever_deletes_has_none_of_their_functions_run(pg):
    """The trigger runs with its owner's rights, so not by the deleter's search path."""
    task = pg.task("sched_1")
    pg.run("CREATE SCHEMA theirs")
    never = "RETURNS timestamptz LANGUAGE sql AS 'SELECT ''infinity''::timestamptz'"
    pg.run(f"CREATE FUNCTION theirs.clock_timestamp() {never}")
    pg.run("SET search_path = theirs, pg_catalog, public")
    pg.run("DELETE FROM scheduled_actions")
    assert is_due(task)


def test_a_session_of_replication_is_not_recorded(pg):
    """Postgres fires no trigger there, as the documents say."""
    pg.run("SET session_replication_role = replica")
    task = pg.task("sched_1")
    pg.run("DELETE FROM scheduled_actions WHERE id = ?", task)
    assert recorded(pg) == []


def test_whoever_may_delete_is_recorded(pg):
    """Without a right to our tables, under row level security, with a search path of its own."""
    task = pg.task("sched_1")
    pg.run(f"CREATE ROLE {OTHER}")
    try:
        pg.run(f"GRANT SELECT, DELETE ON scheduled_actions TO {OTHER}")
        pg.run(f"CREATE POLICY theirs ON scheduled_actions TO {OTHER} USING (true)")
        pg.run("ALTER TABLE scheduled_actions ENABLE ROW LEVEL SECURITY")
        pg.run("CREATE SCHEMA theirs; CREATE TABLE theirs.orphaned_schedules ()")
        pg.run(f"SET ROLE {OTHER}")
        pg.run("SET search_path = theirs")
        pg.run("DELETE FROM public.scheduled_actions")
        pg.run("RESET ROLE; RESET search_path")
        assert recorded(pg) == [(task, "sched_1")]
        assert pg.warnings == []
    finally:
        pg.run("RESET ROLE")
        pg.run(f"DROP OWNED BY {OTHER}")
        pg.run(f"DROP ROLE {OTHER}")


@pytest.mark.parametrize(
    "wrong",
    [
        "ALTER TABLE orphaned_schedules RENAME TO gone",
        "ALTER TABLE orphaned_schedules ADD COLUMN theirs text NOT NULL",
        "ALTER TABLE orphaned_schedules DROP COLUMN due_at",
    ],
)
def test_the_hosts_delete_goes_through_whatever_is_wrong(pg, wrong):
    """A warning says what is not recorded."""
    pg.run(wrong)
    task = pg.task("sched_1")
    pg.run("DELETE FROM scheduled_actions WHERE id = ?", task)
    assert pg.run("SELECT 1 FROM scheduled_actions") == []
    [warning] = pg.warnings
    assert "recoup could not record" in warning


def test_a_lock_on_our_table_holds_nobody_up(pg, postgres_url):
    """The wait is shorter than any timeout that the host may have for its statements."""
    task = pg.task("sched_1")
    with psycopg.connect(postgres_url) as other:
        pg.run("SET statement_timeout = '800ms'")
        other.execute("LOCK TABLE orphaned_schedules")
        pg.run("DELETE FROM scheduled_actions WHERE id = ?", task)
        assert "lock timeout" in pg.warnings[0]
    pg.run("RESET statement_timeout")
    assert pg.run("SELECT 1 FROM scheduled_actions") == []


# On, off, and whether it is whole


def test_an_upgrade_alone_makes_no_guard(postgres_url):
    """It is the operator's choice."""
    connect(make_config(postgres_url))
    upgrade()
    assert guard.look() == (False, [])


def test_on_and_off(pg):
    """All of it goes; what was recorded stays."""
    assert guard.look().is_whole
    pg.run("DELETE FROM scheduled_actions WHERE id = ?", pg.task("sched_1"))
    guard.turn_off()
    assert guard.look() == (False, [])
    pg.run("DELETE FROM scheduled_actions WHERE id = ?", pg.task("sched_2"))
    assert [schedule for _, schedule in recorded(pg)] == ["sched_1"]
    assert pg.run("SELECT 1 FROM pg_proc WHERE proname LIKE 'recoup%'") == []
    guard.turn_off()
    guard.turn_on()
    guard.turn_on()
    assert guard.look().is_whole


@pytest.mark.parametrize("change", BROKEN)
def test_a_guard_that_was_broken_is_seen_and_mended(pg, change):
    """By a migration of the host's, most probably."""
    pg.run(change)
    found = guard.look()
    assert not found.is_whole
    assert BROKEN[change] in " ".join(found.faults)
    guard.turn_on()
    assert guard.look().is_whole
    pg.run("DELETE FROM scheduled_actions WHERE id = ?", pg.task("sched_1"))
    assert len(recorded(pg)) == 1


def test_on_gives_up_behind_a_long_transaction(postgres_url):
    """Everybody else would queue behind it for the host's table."""
    connect(make_config(postgres_url))
    with psycopg.connect(postgres_url) as other:
        other.execute("UPDATE scheduled_actions SET title = 'busy'")
        with pytest.raises(DatabaseFailed, match="lock timeout"):
            guard.turn_on()
    release()
    assert guard.look() == (False, [])


def test_a_whole_guard_takes_no_lock(pg, postgres_url):
    """`on` may be run with each deployment, whatever the host is doing."""
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE scheduled_actions IN ROW EXCLUSIVE MODE")
        guard.turn_on()


def test_it_goes_with_a_dump_into_another_database(postgres, pg, postgres_url):
    """The guard is whole there, what waits waits there too, and new records have new ids."""
    pg.run("DELETE FROM scheduled_actions WHERE id = ?", pg.task("sched_1"))
    there = pg.task("sched_2")
    name = f"restored_{uuid4().hex}"
    postgres.create_database(name)
    dump = subprocess.run(
        [find_binaries() / "pg_dump", postgres_url], stdout=subprocess.PIPE, check=True
    )
    psql = [find_binaries() / "psql", "-qX", "-v", "ON_ERROR_STOP=1", postgres.url(name)]
    subprocess.run(psql, input=dump.stdout, stdout=subprocess.DEVNULL, check=True)
    close_database()
    connect(make_config(postgres.url(name)))
    assert guard.look().is_whole
    with closing(HostConnection(postgres.url(name))) as restored:
        restored.run("DELETE FROM scheduled_actions WHERE id = ?", there)
        assert [schedule for _, schedule in recorded(restored)] == ["sched_1", "sched_2"]
    close_database()
    postgres.drop_database(name)


# SQLite


def test_threads_that_delete_take_turns_on_few_connections(sqlite_url):
    """A thread that waits for its turn holds a connection; the writing thread needs no other."""
    connect(make_config(sqlite_url, DATABASE_POOL_SIZE="2"))
    with closing(HostConnection(sqlite_url)) as host:
        tasks = [host.task("sched_1") for _ in range(64)]

    def delete(task):
        statements.place_mark(task, task, None, 60)
        release()
        removed = statements.remove_task(task, "sched_1", task)
        release()
        return removed

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(delete, tasks))
    assert fetch("SELECT 1 FROM orphaned_schedules") == []


def test_sqlite_always_has_a_guard(sqlite_url):
    """`upgrade()` makes it, in a file of an earlier version too."""
    connect(make_config(sqlite_url))
    assert guard.look().is_whole
    execute("DROP TRIGGER recoup_guard")
    assert guard.look() == (False, [])
    upgrade()
    assert guard.look().is_whole
    execute("DROP TRIGGER recoup_guard")
    execute("CREATE TRIGGER recoup_guard AFTER DELETE ON scheduled_actions BEGIN SELECT 1; END")
    assert guard.look() == (True, [guard.OTHER_TRIGGER])
    upgrade()
    assert guard.look().is_whole


def test_any_program_may_delete_from_the_sqlite_file(sqlite_url):
    """Without our functions, and without foreign keys, which it has to turn on."""
    with closing(HostConnection(sqlite_url)) as host:
        task = host.task("sched_1")
    program = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); "
    program += "db.execute('DELETE FROM scheduled_actions'); db.commit()"
    path = sqlite_url.removeprefix("sqlite:///")
    subprocess.run([sys.executable, "-c", program, path], env=dict(os.environ), check=True)
    connect(make_config(sqlite_url))
    assert fetch("SELECT task_id FROM orphaned_schedules") == [(task,)]
    [orphan] = orphans.due_orphans(10)
    assert (orphan.task_id, orphan.schedule_id, orphan.attempts) == (task, "sched_1", 0)
    assert 0 <= orphan.age_seconds < 60
