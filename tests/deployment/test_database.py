"""The SQL of `docs/deployment.md`, in its order, on a database with the host's tables and roles."""

import re

import psycopg
import pytest
import requests

from recoup.app import create_app
from tests.conftest import close_database, make_config, make_host_database
from tests.factories import World
from tests.forked import run
from tests.server import REPOSITORY, Server

SECONDS = 60
NAME = "host_of_the_docs"
OWNER = "host_owner"
ROLE = "recoup"
# As on Supabase: its `postgres` owns the database and its tables, gives each new table to everyone,
# and is no superuser. Nobody may use the schema by being anybody, which some see to.
OWNED = f"""
CREATE ROLE {OWNER} LOGIN CREATEROLE BYPASSRLS;
ALTER DATABASE {NAME} OWNER TO {OWNER};
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
    GRANT ALL ON TABLES TO anon, authenticated, service_role;
DO $$
DECLARE
    host_table regclass;
BEGIN
    FOR host_table IN SELECT oid FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO {OWNER}', host_table);
    END LOOP;
END
$$;
"""


def documented_sql():
    """Return the blocks: the role, its rights, those for the commands, and how to leave."""
    text = (REPOSITORY / "docs" / "deployment.md").read_text()
    role, rights, command_rights, leave = re.findall(r"^```sql\n(.*?)^```", text, re.M | re.S)
    return role, rights, command_rights, leave


class Host:
    """A database of the host's, its owner, and the role that the docs make."""

    def __init__(self, postgres):
        self.superuser_url = postgres.url(NAME)
        self.url = self._as(ROLE)
        self.owner_url = self._as(OWNER)
        with psycopg.connect(self.superuser_url) as connection:
            connection.execute(OWNED)
            # Before Postgres 16 only a superuser could; Supabase lets its owner do it there too.
            owner_may = connection.info.server_version >= 160000
        self.creator_url = self.owner_url if owner_may else self.superuser_url

    def _as(self, role):
        return self.superuser_url.replace("postgres@", f"{role}@")

    def run(self, sql, url=None):
        """Run statements as the owner, or as somebody else; return the last one's rows."""
        with psycopg.connect(url or self.owner_url) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def forget_roles(self):
        """Remove what would outlive the database, as roles belong to the server."""
        roles = [role for (role,) in self.run("SELECT rolname FROM pg_roles", self.superuser_url)]
        for role in {OWNER, ROLE} & set(roles):
            self.run(f"DROP OWNED BY {role} CASCADE", self.superuser_url)
        self.run(f"ALTER DATABASE {NAME} OWNER TO postgres", self.superuser_url)
        for role in {OWNER, ROLE} & set(roles):
            self.run(f"DROP ROLE {role}", self.superuser_url)


@pytest.fixture(name="host")
def _host(postgres):
    make_host_database(postgres, NAME)
    host = Host(postgres)
    yield host
    close_database()
    host.forget_roles()
    postgres.drop_database(NAME)


def recoup(url, standin, *arguments):
    """Run a command as a process of its own, and return what it printed."""
    environ = {
        "DATABASE_URL": url,
        "TRIGGER_SECRET_KEY": "tr_dev_standin",
        "TRIGGER_API_URL": standin.url,
        "PRIVY_PROJECT_SECRET": "secret-of-the-tests",
    }
    code, stdout, stderr = run("recoup", *arguments, cwd=REPOSITORY, **environ)
    assert code == 0, stdout + stderr
    return stdout


def deploy(host, standin):
    """Follow the docs."""
    role, rights, command_rights, _ = documented_sql()
    host.run(role, host.creator_url)
    recoup(host.owner_url, standin, "db", "upgrade")
    host.run(rights)
    host.run(command_rights)


def make_world(host, standin):
    return World(create_app(make_config(host.owner_url, TRIGGER_API_URL=standin.url)), standin)


def test_the_documented_role_serves(host, standin):
    """It is ready, and deletes a task with its schedule."""
    deploy(host, standin)
    world = make_world(host, standin)
    owner = world.account(organizations=[world.account()])
    task = world.task(owner)
    with Server(host.url, TRIGGER_API_URL=standin.url) as server:
        ready = requests.get(f"{server.url}/readyz", timeout=SECONDS)
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
        assert server.delete(task, world.key(owner)).status_code == 200
    assert (world.row(task), world.mark(task), standin.schedules) == (None, None, {})


def test_the_documented_role_collects_what_the_guard_records(host, standin):
    """The owner turns the guard on, somebody deletes a row, and the service cancels."""
    deploy(host, standin)
    assert recoup(host.owner_url, standin, "db", "guard", "on") == "The guard is on.\n"
    world = make_world(host, standin)
    owner = world.account()
    task = world.task(owner)
    host.run("GRANT SELECT, DELETE ON scheduled_actions TO anon")
    delete_as_anon = f"SET ROLE anon; DELETE FROM scheduled_actions WHERE id = '{task}'"
    host.run(delete_as_anon, host.superuser_url)
    assert f"{task} cancelled" in recoup(host.url, standin, "tasks", "recover")
    assert standin.schedules == {}
    assert "The guard is on." in recoup(host.url, standin, "db", "guard", "status")


def test_the_documented_role_runs_the_commands(host, standin, tmp_path):
    """Each of those that write."""
    deploy(host, standin)
    world = make_world(host, standin)
    owner = world.account()
    gone, task = world.task(owner), world.task(owner)
    lost = world.task(owner)
    host.run(f"UPDATE scheduled_actions SET trigger_schedule_id = NULL WHERE id = '{lost}'")
    host.run(f"DELETE FROM scheduled_actions WHERE id = '{gone}'")
    key = recoup(host.url, standin, "keys", "create", "--account", owner).split()[-1]
    [(key_id,)] = host.run("SELECT id FROM account_api_keys")
    recoup(host.url, standin, "keys", "revoke", str(key_id))
    backup = tmp_path / "schedules.json"
    recoup(host.url, standin, "tasks", "reconcile", "--fix", "--yes", "--backup", str(backup))
    recoup(host.url, standin, "tasks", "delete", task)
    recoup(host.url, standin, "tasks", "recover")
    assert key.startswith("recoup_sk_")
    assert backup.exists()
    assert world.row(lost)["trigger_schedule_id"] is not None
    assert {schedule["externalId"] for schedule in standin.schedules.values()} == {lost}


def test_who_holds_the_public_key_gains_nothing(host, standin):
    """On Supabase everybody gets rights to a new table, but not to ours."""
    deploy(host, standin)
    [(tables,)] = host.run(
        "SELECT array_agg(relname) FROM pg_class JOIN pg_tables ON relname = tablename "
        "WHERE relname IN ('task_deletions', 'orphaned_schedules', 'orphan_collector') "
        "AND (has_table_privilege('anon', pg_class.oid, 'SELECT, INSERT, UPDATE, DELETE') "
        "OR NOT relrowsecurity)"
    )
    assert tables is None


def test_leaving_leaves_the_host_as_it_was(host, standin):
    """But for the index, which does no harm."""
    before = host.run("SELECT relname FROM pg_class WHERE relkind = 'r' ORDER BY 1")
    deploy(host, standin)
    host.run(documented_sql()[3], host.creator_url)
    assert host.run("SELECT relname FROM pg_class WHERE relkind = 'r' ORDER BY 1") == before
    assert host.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{ROLE}'") == []
