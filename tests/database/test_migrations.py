"""`upgrade()` makes a database ready, may run at any time, and harms nothing that exists."""

import os
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from recoup.database import statements, waits
from recoup.database.connection import DatabaseFailed, connect, database, execute, fetch, release
from recoup.database.migrations import LOCK_KEY, upgrade
from recoup.database.models import HOST_MODELS, Account, ScheduledAction, table_name
from recoup.database.readiness import missing_from_schema
from tests.conftest import close_database, make_config
from tests.forked import Forked
from tests.waiting import wait_for

_numbers = count(1)

# By a program that knows nothing but the columns.
FILL = """
    INSERT INTO accounts (name) VALUES ('one'), ('two'), (NULL);
    INSERT INTO account_emails (account_id, email)
        SELECT id, 'a@example.com' FROM accounts;
    INSERT INTO account_api_keys (name, account, key_hash)
        SELECT 'key', id, 'the same' FROM accounts;
    INSERT INTO account_organization_ids (account_id, organization_id)
        SELECT id, id FROM accounts;
    INSERT INTO scheduled_actions
        (title, prompt, schedule, account_id, artist_account_id, trigger_schedule_id)
        SELECT 't', 'p', '0 9 * * 1', id, id, 'sched_1' FROM accounts;
"""
FILL_HOST = f"""
    ALTER TABLE account_api_keys ADD COLUMN hosts_own text DEFAULT 'kept';
    {FILL}
    UPDATE scheduled_actions SET "hostOnly" = '{{"theirs": 1}}';
"""

OURS = "('task_deletions', 'orphaned_schedules', 'orphaned_schedules_id_seq', 'orphan_collector')"
# What the host could notice, but for our own tables.
CATALOGUE = {
    "columns": f"""
        SELECT table_name, column_name, ordinal_position, column_default, is_nullable, data_type
        FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name NOT IN {OURS} ORDER BY 1, 3
    """,
    "indexes": f"""
        SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename NOT IN {OURS} ORDER BY 1, 2
    """,
    "constraints": f"""
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT IN {OURS}
        ORDER BY 1, 2
    """,
    "grants": f"""
        SELECT table_name, grantee, privilege_type FROM information_schema.role_table_grants
        WHERE table_schema = 'public' AND table_name NOT IN {OURS} ORDER BY 1, 2, 3
    """,
    "tables": f"""
        SELECT relname, relkind, relowner, relrowsecurity, relforcerowsecurity FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind <> 'i'
          AND relname NOT IN {OURS} ORDER BY 1
    """,
    "default grants": "SELECT defaclacl::text FROM pg_default_acl",
}
ADDED_INDEX = "account_api_keys_key_hash"


@pytest.fixture
def host_url(postgres):
    """A Postgres database with the host's tables and rows, not upgraded."""
    name = f"host_{next(_numbers)}"
    postgres.create_database(name, template="template_host")
    with psycopg.connect(postgres.url(name)) as host:
        host.execute(FILL_HOST)
    yield postgres.url(name)
    close_database()
    postgres.drop_database(name)


@pytest.fixture
def host(host_url):
    """The host's own connection to it."""
    with psycopg.connect(host_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def upgraded(host_url, host):
    """The host's connection, after our upgrade."""
    upgrade_database(host_url)
    return host


def upgrade_database(url):
    connect(make_config(url))
    try:
        upgrade()
    finally:
        close_database()


def look(host):
    """Return all that the host can see of its own: the catalogue, and each row."""
    seen = {name: host.execute(query).fetchall() for name, query in CATALOGUE.items()}
    for table in {row[0] for row in seen["columns"]}:
        seen[table] = host.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
    return seen


def tables(host):
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    return {row[0] for row in host.execute(query)}


def run_four_at_once(url, folder):
    """Run four processes of `recoup db upgrade`; return their exit codes and stderr."""
    environ = {"DATABASE_URL": url, "TRIGGER_SECRET_KEY": "a", "PRIVY_PROJECT_SECRET": "b"}
    errors = [folder / f"errors-{number}" for number in range(4)]
    processes = [
        Forked(["recoup", "db", "upgrade"], folder, environ, [os.devnull, os.devnull, str(error)])
        for error in errors
    ]
    codes = [process.wait() for process in processes]
    return codes, [error.read_text() for error in errors]


# Postgres


def test_upgrade_adds_to_the_hosts_database_and_alters_nothing(host_url, host):
    """One table and one index more; every column, grant and row of the host as it was."""
    before = look(host)
    upgrade_database(host_url)
    after = look(host)
    added = [index for index in after["indexes"] if index not in before["indexes"]]
    assert [index[1] for index in added] == [ADDED_INDEX]
    after["indexes"].remove(added[0])
    assert after == before
    assert len(after["scheduled_actions"]) == 3


def test_an_upgraded_database_lacks_nothing(host_url, host):
    """What the upgrade makes is what the code uses."""
    connect(make_config(host_url))
    assert missing_from_schema() == [
        "table task_deletions",
        "table orphaned_schedules",
        "table orphan_collector",
    ]
    upgrade()
    assert missing_from_schema() == []


def test_a_second_upgrade_changes_nothing(host_url, upgraded):
    """Neither the host's things nor ours."""
    indexes = "SELECT indexname FROM pg_indexes WHERE tablename = 'task_deletions'"
    before = look(upgraded), upgraded.execute(indexes).fetchall()
    upgrade_database(host_url)
    assert (look(upgraded), upgraded.execute(indexes).fetchall()) == before


@pytest.mark.parametrize(
    ("whose", "mode"),
    [
        ("a backup's", "ACCESS SHARE"),
        ("a deletion's", "ROW EXCLUSIVE"),
        ("one that admits nobody", "ACCESS EXCLUSIVE"),
    ],
)
def test_an_upgrade_with_nothing_to_do_asks_for_no_lock(host_url, upgraded, whose, mode):
    """It neither fails beside a backup, nor holds up a deletion: no table is touched."""
    with psycopg.connect(host_url) as other:
        other.execute(f"LOCK TABLE {', '.join(tables(upgraded))} IN {mode} MODE")
        upgrade_database(host_url)


@pytest.mark.parametrize(
    "meanwhile",
    [
        "ALTER TABLE task_deletions DISABLE ROW LEVEL SECURITY",
        "DROP INDEX task_deletions_lease_expires_at",
    ],
)
def test_an_upgrade_that_has_something_to_do_waits_its_turn(host_url, upgraded, meanwhile):
    """The test above proves nothing if an upgrade never takes a lock."""
    upgraded.execute(meanwhile)
    with psycopg.connect(host_url) as other:
        other.execute("LOCK TABLE task_deletions IN ROW EXCLUSIVE MODE")
        with pytest.raises(DatabaseFailed, match="lock timeout"):
            upgrade_database(host_url)
    upgrade_database(host_url)


def test_marks_survive_an_upgrade(host_url, upgraded):
    """A deletion may be under way on another machine."""
    task_id = place_mark(upgraded)
    upgrade_database(host_url)
    assert upgraded.execute("SELECT task_id FROM task_deletions").fetchall() == [(task_id,)]


def test_four_upgrades_at_once_all_succeed_on_postgres(host_url, host, tmp_path):
    """Each machine of a deployment may run it."""
    assert run_four_at_once(host_url, tmp_path) == ([0] * 4, [""] * 4)
    assert "task_deletions" in tables(host)


def test_an_upgrade_holds_its_lock_to_the_end(host_url, host):
    """`IF NOT EXISTS` alone lets two at once try to make the same table."""
    connect(make_config(host_url))
    waiting = "SELECT FROM pg_locks WHERE NOT granted"
    ours = "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND granted"
    with ThreadPoolExecutor(1) as threads, psycopg.connect(host_url) as other:
        other.execute("LOCK TABLE scheduled_actions IN ROW EXCLUSIVE MODE")
        threads.submit(upgrade)
        wait_for(lambda: host.execute(waiting).fetchall())
        assert host.execute(ours).fetchall() == [(LOCK_KEY,)]


def place_mark(host):
    (task_id,) = host.execute("SELECT id FROM scheduled_actions LIMIT 1").fetchone()
    host.execute(
        "INSERT INTO task_deletions VALUES (%s, %s, NULL, now(), now())", (task_id, uuid4())
    )
    return task_id


@pytest.mark.parametrize("role", ["anon", "authenticated"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM task_deletions",
        "INSERT INTO task_deletions SELECT id, id, NULL, now(), now() FROM scheduled_actions",
        "UPDATE task_deletions SET lease_expires_at = now()",
        "DELETE FROM task_deletions",
        "TRUNCATE task_deletions",
    ],
)
def test_the_public_roles_may_do_nothing_to_our_table(upgraded, role, statement):
    """The host's data API serves each table of the schema to whoever has its public key."""
    upgraded.execute(f"SET ROLE {role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        upgraded.execute(statement)


def test_row_level_security_is_a_second_fence(upgraded):
    """If somebody grants it to everyone again, no row shows, and none can be written."""
    place_mark(upgraded)
    upgraded.execute("GRANT ALL ON task_deletions TO anon")
    upgraded.execute("SET ROLE anon")
    assert upgraded.execute("SELECT * FROM task_deletions").fetchall() == []
    assert upgraded.execute("DELETE FROM task_deletions").rowcount == 0


@pytest.mark.parametrize("granted", ["ALL", "SELECT (task_id)"])
def test_an_upgrade_takes_back_what_was_granted_meanwhile(host_url, upgraded, granted):
    """The next deployment puts it right, on a single column too."""
    upgraded.execute(f"GRANT {granted} ON task_deletions TO anon")
    upgraded.execute("ALTER TABLE task_deletions DISABLE ROW LEVEL SECURITY")
    upgrade_database(host_url)
    upgraded.execute("SET ROLE anon")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        upgraded.execute("SELECT task_id FROM task_deletions")


def test_the_service_role_may_use_our_table(upgraded):
    """The service may connect as it."""
    upgraded.execute("SET ROLE service_role")
    place_mark(upgraded)


def test_a_server_without_the_public_roles_will_do(host):
    """They are Supabase's; the file names them only where they exist."""
    text = files("recoup.database.migrations").joinpath("postgres.sql").read_text()
    host.execute("BEGIN")
    host.execute(text.replace("'anon', 'authenticated'", "'no_such_role'"))
    host.execute("ROLLBACK")


def key_hash_indexes(host):
    query = "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%%(key_hash%%' ORDER BY 1"
    return [row[0] for row in host.execute(query)]


@pytest.mark.parametrize(
    "columns", ["(key_hash)", "(key_hash, account)", "(key_hash text_pattern_ops)"]
)
def test_an_index_that_the_host_has_is_not_made_again(host_url, host, columns):
    """Under whatever name it has it."""
    host.execute(f"CREATE INDEX hosts_own ON account_api_keys {columns}")
    upgrade_database(host_url)
    assert key_hash_indexes(host) == ["hosts_own"]


@pytest.mark.parametrize("columns", ["(key_hash) WHERE expires_at IS NULL", "(account, key_hash)"])
def test_an_index_that_does_not_serve_is_not_enough(host_url, host, columns):
    """A look-up by the hash alone can't use it."""
    host.execute(f"CREATE INDEX hosts_own ON account_api_keys {columns}")
    upgrade_database(host_url)
    assert ADDED_INDEX in key_hash_indexes(host)


@pytest.mark.parametrize("table", ["accounts", "account_api_keys", "scheduled_actions"])
def test_a_database_that_is_not_the_hosts_is_left_alone(host_url, host, table):
    """A plain error names the table that is missing, and nothing is made."""
    host.execute(f"DROP TABLE {table} CASCADE")
    before = tables(host)
    with pytest.raises(DatabaseFailed, match=f"no table {table}:"):
        upgrade_database(host_url)
    assert tables(host) == before


def test_an_empty_database_is_left_empty(postgres):
    """Most probably it is the wrong one."""
    name = f"host_{next(_numbers)}"
    postgres.create_database(name)
    with pytest.raises(DatabaseFailed, match=r"no table accounts, .*scheduled_actions:"):
        upgrade_database(postgres.url(name))
    with psycopg.connect(postgres.url(name)) as connection:
        assert tables(connection) == set()
    postgres.drop_database(name)


def test_an_upgrade_gives_up_behind_a_long_transaction(host_url, host):
    """It would queue for a lock, and the host's own writers would queue behind it."""
    with psycopg.connect(host_url) as other:
        other.execute("UPDATE scheduled_actions SET title = 'busy'")
        with pytest.raises(DatabaseFailed, match="lock timeout"):
            upgrade_database(host_url)
        assert "task_deletions" not in tables(host)
    upgrade_database(host_url)
    assert "task_deletions" in tables(host)


@pytest.mark.parametrize("table", ["scheduled_actions", "account_api_keys"])
def test_an_upgrade_that_gets_no_answer_leaves_nothing_behind(host_url, host, monkeypatch, table):
    """No half of the additions, and no statement that still waits; the next upgrade succeeds."""
    monkeypatch.setattr("recoup.database.migrations.UPGRADE_SECONDS", 1)
    connect(make_config(host_url))
    with psycopg.connect(host_url) as other:
        other.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
        with pytest.raises(DatabaseFailed, match="did not answer in time"):
            upgrade()
        release()
        wait_for(lambda: not host.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall())
        assert "task_deletions" not in tables(host)
    upgrade()
    assert "task_deletions" in tables(host)


def test_an_upgrade_that_fails_half_way_leaves_nothing_behind(host_url, host):
    """All of it is one transaction."""
    host.execute(f"CREATE TABLE {ADDED_INDEX} ()")
    with pytest.raises(DatabaseFailed, match="already exists"):
        upgrade_database(host_url)
    assert "task_deletions" not in tables(host)


def test_a_mark_goes_with_its_task(upgraded):
    """Whoever deletes the row, the host's own programs included."""
    task_id = place_mark(upgraded)
    upgraded.execute("DELETE FROM scheduled_actions WHERE id = %s", (task_id,))
    assert upgraded.execute("SELECT * FROM task_deletions").fetchall() == []


def test_the_sql_file_only_adds():
    """No statement in it could lose something of the host's."""
    text = files("recoup.database.migrations").joinpath("postgres.sql").read_text()
    text = re.sub(r"--.*", "", text)
    for harmless in (
        "REFERENCES scheduled_actions (id) ON DELETE CASCADE",
        "ALTER TABLE task_deletions ADD COLUMN",
        "'ALTER TABLE ' || own || ' ENABLE ROW LEVEL SECURITY'",
    ):
        assert text.count(harmless) == 1
        text = text.replace(harmless, "")
    words = "DROP|ALTER|RENAME|TRUNCATE|DELETE|UPDATE|INSERT|GRANT|DISABLE|COMMIT"
    assert re.findall(rf"\b({words})\b", text, re.IGNORECASE) == []


# SQLite


@pytest.fixture
def new_url(tmp_path):
    """The URL of an SQLite file that isn't there yet."""
    yield f"sqlite:///{tmp_path}/new.db"
    close_database()


def schema(url):
    with sqlite3.connect(url.removeprefix("sqlite:///")) as plain:
        rows = plain.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    plain.close()
    return rows


def test_upgrade_makes_a_sqlite_database(new_url):
    """All tables, as there is no host."""
    upgrade_database(new_url)
    connect(make_config(new_url))
    assert missing_from_schema() == []


def test_a_new_sqlite_file_is_its_owners_alone(new_url):
    """It has e-mail addresses and prompts, and so has what SQLite puts beside it."""
    upgrade_database(new_url)
    connect(make_config(new_url))
    Account.create(name="somebody")
    path = Path(new_url.removeprefix("sqlite:///"))
    modes = {one.name: oct(one.stat().st_mode)[-3:] for one in path.parent.glob(f"{path.name}*")}
    assert modes == {path.name + end: "600" for end in ("", "-shm", "-wal")}


def test_any_program_can_insert_rows_into_sqlite(new_url):
    """The columns that the host gives a default to have it there too, in the form of our own."""
    upgrade_database(new_url)
    plain = sqlite3.connect(new_url.removeprefix("sqlite:///"))
    plain.executescript(FILL)
    plain.close()
    connect(make_config(new_url))
    for model in HOST_MODELS:
        rows = list(model.select())
        assert len({row.id for row in rows}) == 3, model
        assert all(row.id.version == 4 for row in rows)
        texts = fetch(f"SELECT id FROM {table_name(model)}")
        assert sorted(texts) == sorted((str(row.id),) for row in rows)
    assert all(row.enabled and row.created_at and row.updated_at for row in rows)
    release()


def test_a_second_upgrade_of_sqlite_changes_nothing(new_url):
    """Not even an index."""
    upgrade_database(new_url)
    before = schema(new_url)
    upgrade_database(new_url)
    assert schema(new_url) == before


def test_four_upgrades_at_once_all_succeed_on_sqlite(new_url, tmp_path):
    """The first makes the file, the others wait for it."""
    assert run_four_at_once(new_url, tmp_path) == ([0] * 4, [""] * 4)
    assert "task_deletions" in dict(schema(new_url))


def test_rows_and_foreign_columns_survive_an_upgrade_of_sqlite(sqlite_url):
    """A file that other programs use too."""
    path = sqlite_url.removeprefix("sqlite:///")
    plain = sqlite3.connect(path)
    plain.execute("ALTER TABLE accounts ADD COLUMN theirs TEXT")
    plain.execute("INSERT INTO accounts (id, name, theirs) VALUES ('x', 'n', 'kept')")
    plain.commit()
    upgrade_database(sqlite_url)
    assert plain.execute("SELECT * FROM accounts").fetchall() == [("x", "n", "kept")]
    plain.close()


def test_a_lost_table_comes_back_and_the_others_stay(sqlite_url):
    """An upgrade adds what is missing, here our own table, beside rows that are there."""
    plain = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    plain.execute("INSERT INTO accounts VALUES ('x', 'n')")
    plain.execute("DROP TABLE task_deletions")
    plain.commit()
    upgrade_database(sqlite_url)
    assert plain.execute("SELECT count(*) FROM accounts").fetchone() == (1,)
    assert plain.execute("SELECT count(*) FROM task_deletions").fetchone() == (0,)
    plain.close()


def test_a_mark_goes_with_its_task_on_sqlite(sqlite_url):
    """Foreign keys are on, on each connection of ours."""
    connect(make_config(sqlite_url))
    task_id = make_marked_task()
    execute("DELETE FROM scheduled_actions WHERE id = ?", str(task_id))
    assert fetch("SELECT * FROM task_deletions") == []


def make_marked_task():
    account = Account.create(name="n")
    task = ScheduledAction.create(
        title="t",
        prompt="p",
        schedule="* * * * *",
        account_id=account.id,
        artist_account_id=account.id,
    )
    assert statements.place_mark(str(task.id), str(uuid4()), None, 1.5)
    return task.id


def test_any_tool_can_read_the_sqlite_file(sqlite_url):
    """UUIDs are canonical lower-case text, instants are ISO 8601 UTC text with a Z."""
    connect(make_config(sqlite_url))
    task_id = make_marked_task()
    close_database()
    plain = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    plain.row_factory = sqlite3.Row
    task = plain.execute("SELECT * FROM scheduled_actions").fetchone()
    mark = plain.execute("SELECT * FROM task_deletions").fetchone()
    assert task["id"] == mark["task_id"] == str(task_id)
    for value in (task["id"], task["account_id"], task["artist_account_id"], mark["token"]):
        assert value == str(UUID(value))
    for value in (task["created_at"], mark["requested_at"], mark["lease_expires_at"]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value)
    assert mark["requested_at"] < mark["lease_expires_at"]
    plain.close()


def test_an_upgrade_behind_a_writer_gives_up(sqlite_url, monkeypatch):
    """It waits for the write lock as long as anyone, and then says so."""
    monkeypatch.setattr(waits, "WAIT_SECONDS", 1)
    plain = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    plain.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseFailed, match="locked"):
        upgrade_database(sqlite_url)
    plain.close()
    assert database.is_closed()
