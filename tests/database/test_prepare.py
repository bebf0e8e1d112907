"""Prepared statements: where the session is ours alone, and nowhere else."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from benchmarks.seed import seed
from recoup.app import create_app
from recoup.database import queries
from recoup.database.connection import connect, database, execute, fetch, release
from recoup.database.session import PREPARE_AFTER
from tests.conftest import close_database, make_config
from tests.database.conftest import in_thread
from tests.factories import World, delete
from tests.pgbouncer import PgBouncer

NEW_ACCOUNT = "INSERT INTO accounts (id, name) VALUES (?, ?)"
ACCOUNTS = "SELECT id, name FROM accounts WHERE id = ?"
ROWS = 5_000
OFTEN = 2 * PREPARE_AFTER
PREPARED = "SELECT statement FROM pg_prepared_statements"


@pytest.fixture(name="name")
def _name(postgres_url):
    return psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"]


@pytest.fixture(name="pooled_url", params=["transaction", "session"])
def _pooled_url(request, postgres, name):
    """The database behind a PgBouncer, in either mode, that has two sessions with it."""
    with PgBouncer(postgres, request.param, size=2) as pooler:
        yield pooler.url(name)
        close_database()


def run_often():
    """Run a statement more often than it takes to be prepared; return which are, then."""
    for _ in range(OFTEN):
        fetch(ACCOUNTS, str(uuid4()))
    return [text for (text,) in fetch(PREPARED) if "FROM accounts" in text]


def delete_many(world, client, clients):
    """Delete tasks, several at once; return the answers' statuses."""
    account = world.account()
    key = world.key(account)
    tasks = [world.task(account) for _ in range(8 * clients)]
    with ThreadPoolExecutor(clients) as threads:
        return {
            answer.status_code for answer in threads.map(lambda t: delete(client, t, key), tasks)
        }


# Where


@pytest.mark.parametrize("address", ["url", "tcp_url"])
def test_the_servers_own_session_keeps_statements(postgres, name, postgres_url, address):
    """By socket and by TCP."""
    connect(make_config(getattr(postgres, address)(name)))
    assert len(run_often()) == 1
    close_database()


def test_it_can_be_turned_off(postgres_url):
    """Where `auto` would do it."""
    connect(make_config(postgres_url, DATABASE_PREPARE="off"))
    assert run_often() == []


def test_behind_a_pooler_nothing_is_prepared(pooled_url, standin):
    """Its sessions are shared: one client would run what another has prepared."""
    app = create_app(make_config(pooled_url, TRIGGER_API_URL=standin.url))
    assert delete_many(World(app, standin), app.test_client(), clients=4) == {200}
    assert [in_thread(run_often) for _ in range(4)] == [[]] * 4


@pytest.mark.parametrize("pooled_url", ["session"], indirect=True)
def test_it_can_be_turned_on(pooled_url):
    """For a pooler that keeps each client's statements apart."""
    connect(make_config(pooled_url, DATABASE_PREPARE="on"))
    assert len(run_often()) == 1


# What may happen to what is kept


@pytest.fixture(name="prepared")
def _prepared(postgres_url, standin):
    """An app whose sessions have prepared the statements of a deletion; a world, and a client."""
    app = create_app(make_config(postgres_url, TRIGGER_API_URL=standin.url))
    world, client = World(app, standin), app.test_client()
    assert delete_many(world, client, clients=4) == {200}
    assert fetch(PREPARED)
    release()
    return world, client


def test_the_host_may_alter_its_tables(prepared, postgres_url):
    """A prepared statement then returns another type; no deletion fails because of that."""
    with psycopg.connect(postgres_url) as host:
        host.execute("ALTER TABLE scheduled_actions ALTER trigger_schedule_id TYPE varchar(300)")
        host.execute("ALTER TABLE account_api_keys ALTER account TYPE text")
        host.execute("ALTER TABLE account_api_keys ALTER account TYPE uuid USING account::uuid")
    assert delete_many(*prepared, clients=4) == {200}


def test_a_statement_whose_result_has_changed_is_run_again(postgres_url):
    """In another session, and with the new type."""
    connect(make_config(postgres_url))
    account = str(uuid4())
    execute(NEW_ACCOUNT, account, "7")
    run_often()
    with psycopg.connect(postgres_url) as host:
        host.execute("ALTER TABLE accounts ALTER name TYPE int USING name::int")
    assert [name for _, name in fetch(ACCOUNTS, account)] == [7]


@pytest.mark.parametrize("statement", ["DISCARD ALL", "DEALLOCATE ALL"])
def test_a_session_may_forget_what_it_has_prepared(postgres_url, statement):
    """Neither a statement that reads nor one that writes fails for it."""
    connect(make_config(postgres_url))
    for run in (lambda: fetch(ACCOUNTS, str(uuid4())), lambda: execute(NEW_ACCOUNT, uuid4(), "n")):
        for _ in range(OFTEN):
            before = run()
        database.connection().pgconn.exec_(statement.encode())  # psycopg doesn't look at it
        assert run() == before
    assert fetch("SELECT count(*) FROM accounts") == [(OFTEN + 1,)]


# Which plans are kept


@pytest.fixture(name="grown", scope="module")
def _grown(postgres):
    """A database with many tasks and members; its URL."""
    postgres.create_database("kept")
    seed(postgres.url("kept"), tasks=ROWS, members=ROWS)
    yield postgres.url("kept")
    close_database()


@pytest.mark.xdist_group("kept")
@pytest.mark.parametrize("organizations", [1, 10_000])
def test_the_plan_of_the_scope_that_is_kept_is_as_good_as_a_new_one(grown, organizations):
    """For a caller in one organization or in ten thousand, both read equally much."""
    connect(make_config(grown))
    caller, admins = str(uuid4()), str(uuid4())
    join = "INSERT INTO account_organization_ids (account_id, organization_id)"
    several = "SELECT ?, gen_random_uuid() FROM generate_series(1, ?)"
    execute(f"{join} {several}", caller, organizations)
    execute("ANALYZE account_organization_ids")
    tasks = [str(row[0]) for row in fetch("SELECT id FROM scheduled_actions LIMIT ?", 4 * OFTEN)]
    for task in tasks:
        queries.find_task.fetch(task, caller, admins)
    sql, params = queries.find_task.bind(tasks[0], caller, admins)
    [(name,)] = fetch(
        "SELECT name FROM pg_prepared_statements WHERE statement ~ 'organization_ids'"
    )
    values = ", ".join(f"'{value}'" for value in params)
    kept = blocks_read(f"EXECUTE {name}({values})")
    assert 0 < kept <= blocks_read(sql, *params)
    release()


def blocks_read(sql, *params):
    """Return how many blocks of tables and indexes a statement reads."""
    [(plan,)] = fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *params)[0]
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
