"""The two health checks: the process is up, and it can do its work."""

import psycopg
import pytest
from psycopg import sql

from recoup import __version__
from recoup.app import create_app
from recoup.database import connection as db
from recoup.database.connection import is_postgres, release
from tests.conftest import close_database, make_config
from tests.waiting import wait_for

READY = (200, {"status": "ready"})
UNREACHABLE = (503, {"status": "not ready", "problems": ["The database can't be reached."]})
TABLES = (
    "table accounts, table account_emails, table account_api_keys, "
    "table account_organization_ids, table scheduled_actions, table task_deletions, "
    "table orphaned_schedules, table orphan_collector"
)


def ready(client):
    """Return status and body of `/readyz`."""
    response = client.get("/readyz")
    return response.status_code, response.json


def lacking(what):
    """Return the answer of a service whose database lacks something."""
    owner = " as the owner of the tables" if is_postgres() else ""
    problem = f"The database lacks {what}: run `recoup db upgrade`{owner}."
    return 503, {"status": "not ready", "problems": [problem]}


def execute(statement):
    """Do to the database what another program might."""
    db.execute(statement)
    release()


@pytest.fixture(name="client_of")
def _client_of():
    """Make a client of an app with the database at a URL."""
    yield lambda url: create_app(make_config(url)).test_client()
    close_database()


def test_the_process_is_up(client):
    """`/healthz` answers as long as the process does, and says which version it is."""
    response = client.get("/healthz")
    assert (response.status_code, response.json) == (200, {"status": "ok", "version": __version__})


def test_the_process_is_up_without_a_database(tmp_path, client_of):
    """A database that is down is no reason to restart the process."""
    assert client_of(f"sqlite:///{tmp_path}").get("/healthz").status_code == 200


def test_it_is_ready_with_an_upgraded_database(client):
    """All tables and columns are there."""
    assert ready(client) == READY


def test_it_is_ready_without_trigger(client, standin):
    """A Trigger.dev that is down takes no service out of a load balancer, and isn't asked."""
    assert ready(client) == READY
    assert standin.requests == []
    standin.stop()
    assert ready(client) == READY


def test_it_is_not_ready_before_the_upgrade(client):
    """Our own table is missing until the upgrade has run, and is named."""
    execute("DROP TABLE task_deletions")
    assert ready(client) == lacking("table task_deletions")


def test_it_is_not_ready_without_a_column_of_the_hosts(client):
    """A host that renamed a column that we use is reported before a request fails on it."""
    execute("ALTER TABLE scheduled_actions RENAME COLUMN trigger_schedule_id TO renamed")
    assert ready(client) == lacking("column scheduled_actions.trigger_schedule_id")


def test_everything_that_is_missing_is_named(client):
    """The answer says everything that has to be done."""
    execute("DROP TABLE account_emails")
    execute("ALTER TABLE accounts DROP COLUMN name")
    assert ready(client) == lacking("column accounts.name, table account_emails")


def test_it_is_not_ready_with_an_empty_file(tmp_path, client_of):
    """A new SQLite file has no tables yet."""
    (tmp_path / "new.sqlite3").touch()
    client = client_of(f"sqlite:///{tmp_path}/new.sqlite3")
    assert ready(client) == lacking(TABLES)


def test_a_column_that_we_do_not_know_is_no_problem(client):
    """The host may add what it likes."""
    execute("ALTER TABLE scheduled_actions ADD COLUMN another text")
    assert ready(client) == READY


def test_it_is_not_ready_without_a_file(tmp_path, client_of):
    """A database that can't be opened, as its path is a folder's, is reported."""
    assert ready(client_of(f"sqlite:///{tmp_path}")) == UNREACHABLE


@pytest.mark.usefixtures("short_waits")
def test_it_is_not_ready_where_nothing_listens(client_of):
    """A server that refuses connections is reported, with none of its address."""
    assert ready(client_of("postgresql://u:hunter2@127.0.0.1:1/x")) == UNREACHABLE


@pytest.fixture(name="allow_connections")
def _allow_connections(postgres, postgres_url):
    """Take the test's database away with `False`, and bring it back with `True`."""

    name = postgres_url.rpartition("@/")[2].partition("?")[0]
    alter = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    hang_up = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"

    def allow(allowed):
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as admin:
            admin.execute(alter.format(sql.Identifier(name), sql.Literal(allowed)))
            if not allowed:
                admin.execute(hang_up, [name])

    return allow


def test_it_is_not_ready_while_the_server_is_away_and_ready_again_after(
    postgres_url, allow_connections, client_of
):
    """A service that lost its connections finds back by itself."""
    client = client_of(postgres_url)
    assert ready(client) == READY
    allow_connections(False)
    assert ready(client) == UNREACHABLE
    allow_connections(True)
    wait_for(lambda: ready(client) == READY, seconds=10)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_only_read(client, path):
    """Other methods are refused as everywhere else."""
    response = client.post(path)
    assert (response.status_code, response.json["error"]) == (405, "Method Not Allowed")
