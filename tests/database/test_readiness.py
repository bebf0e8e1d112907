"""Whether the database would let a deletion be finished, checked before one begins."""

import psycopg
import pytest

from recoup.app import create_app
from recoup.database.connection import DatabaseFailed
from recoup.database.readiness import UNREACHABLE, Readiness, find_problems
from recoup.deletion.outcomes import DeletionNotPossible
from recoup.deletion.sweep import sweep
from tests.conftest import close_database, make_config
from tests.deletion.test_staged import attempt
from tests.factories import World, delete

ROLE = "the_service"
GRANTS = """
GRANT USAGE ON SCHEMA public TO {role};
GRANT SELECT ON accounts, account_emails, account_organization_ids, account_api_keys TO {role};
GRANT SELECT, DELETE ON scheduled_actions TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE
    ON task_deletions, orphaned_schedules, orphan_collector TO {role};
"""


@pytest.fixture(name="role")
def _role(postgres, postgres_url):
    """A role of our own with all that the service needs; `role("SQL", …)` changes that."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN BYPASSRLS")
        connection.execute(GRANTS.format(role=ROLE))

        def run(*statements):
            for statement in statements:
                connection.execute(statement.format(role=ROLE))

        yield run
        close_database()
        connection.execute(f"DROP OWNED BY {ROLE}")
        connection.execute(f"DROP ROLE {ROLE}")


@pytest.fixture(name="world")
def _world(postgres, postgres_url, role, standin):
    """An app that works as that role."""
    url = postgres_url.replace("postgres@", f"{ROLE}@")
    owner = World(create_app(make_config(postgres_url, TRIGGER_API_URL=standin.url)), standin)
    account = owner.account()
    owner.made_key, owner.made_task = owner.key(account), owner.task(account)
    close_database()
    app = create_app(make_config(url, TRIGGER_API_URL=standin.url))
    owner.app, owner.deleter = app, app.extensions["recoup"].deleter
    return owner


def test_a_role_with_all_rights_is_ready(world):
    """What the documents grant is enough."""
    assert find_problems() == []
    assert delete(world.app.test_client(), world.made_task, world.made_key).status_code == 200


def test_rights_that_are_granted_by_column_count(world, role):
    """Nothing is asked for that no statement uses."""
    role(
        "REVOKE SELECT ON scheduled_actions, account_api_keys, accounts FROM {role}",
        "GRANT SELECT (id, account_id, enabled, title, trigger_schedule_id) ON scheduled_actions "
        "TO {role}",
        "GRANT SELECT (id, account, key_hash, expires_at) ON account_api_keys TO {role}",
    )
    assert find_problems() == []
    assert delete(world.app.test_client(), world.made_task, world.made_key).status_code == 200


@pytest.mark.parametrize(
    ("change", "undo", "problem"),
    [
        (
            "REVOKE DELETE ON scheduled_actions FROM {role}",
            "GRANT DELETE ON scheduled_actions TO {role}",
            "The role lacks DELETE on scheduled_actions.",
        ),
        (
            "REVOKE SELECT ON account_organization_ids FROM {role}",
            "GRANT SELECT ON account_organization_ids TO {role}",
            "The role lacks SELECT on account_organization_ids.",
        ),
        (
            "REVOKE UPDATE ON task_deletions FROM {role}",
            "GRANT UPDATE ON task_deletions TO {role}",
            "The role lacks UPDATE on task_deletions.",
        ),
        (
            "ALTER ROLE {role} NOBYPASSRLS",
            "ALTER ROLE {role} BYPASSRLS",
            "Row level security hides rows from this role in task_deletions.",
        ),
        (
            "CREATE TABLE notes (task uuid REFERENCES scheduled_actions (id))",
            "DROP TABLE notes",
            "The foreign key notes_task_fkey forbids deleting tasks.",
        ),
        (
            "ALTER TABLE account_emails RENAME TO gone",
            "ALTER TABLE gone RENAME TO account_emails",
            "The database lacks table account_emails: run `recoup db upgrade`.",
        ),
    ],
    ids=lambda text: text[:24],
)
def test_what_is_missing_is_named_and_costs_nothing(world, role, change, undo, problem):
    """A deletion is refused before anything is begun, and works again once it is there."""
    role(change)
    assert problem in find_problems()
    client, task = world.app.test_client(), world.made_task
    before = world.standin.requests[:]
    answer = client.get("/readyz")
    assert (answer.status_code, problem in answer.json["problems"]) == (503, True)
    refused = attempt(world.deleter, task)
    assert isinstance(refused, DeletionNotPossible)
    assert problem in str(refused)
    assert world.standin.requests == before
    assert world.schedule_ids(task)
    role(undo)
    world.deleter.readiness.refresh()
    assert attempt(world.deleter, task) is None


def test_a_session_that_is_read_only_is_named(world, role):
    """As after a failover to a server that is still in recovery."""
    role("ALTER ROLE {role} SET default_transaction_read_only = on")
    close_database()
    assert find_problems() == ["The session is read-only."]


def test_a_caller_reads_one_sentence(world, role):
    """The problem is the operator's, and its words are for the log."""
    role("REVOKE DELETE ON scheduled_actions FROM {role}")
    answer = delete(world.app.test_client(), world.made_task, world.made_key)
    assert answer.status_code == 500
    assert answer.json["error"] == "Deletions are not possible now; nothing was changed."


def test_a_host_trigger_is_tried_out_on_the_task_itself(world, role):
    """One that lets the row go is no problem; one that raises is found before the cancel."""
    role(
        "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF OLD.title = 'sacred' THEN RAISE 'no'; END IF; RETURN OLD; END$$",
        "CREATE TRIGGER guard BEFORE DELETE ON scheduled_actions "
        "FOR EACH ROW EXECUTE FUNCTION guard()",
        "UPDATE scheduled_actions SET title = 'sacred'",
    )
    assert isinstance(attempt(world.deleter, world.made_task), DeletionNotPossible)
    assert world.schedule_ids(world.made_task)
    role("UPDATE scheduled_actions SET title = 'any'")
    assert attempt(world.deleter, world.made_task) is None


@pytest.mark.parametrize(
    "made",
    [
        [
            "CREATE TABLE runs (id int PRIMARY KEY, task uuid "
            "REFERENCES scheduled_actions (id) ON DELETE CASCADE)",
            "CREATE TABLE bills (run int REFERENCES runs (id))",
            "INSERT INTO runs SELECT 1, id FROM scheduled_actions",
            "INSERT INTO bills VALUES (1)",
        ],
        [
            "CREATE TABLE runs (task uuid NOT NULL "
            "REFERENCES scheduled_actions (id) ON DELETE SET NULL)",
            "INSERT INTO runs SELECT id FROM scheduled_actions",
        ],
        [
            "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$",
            "CREATE CONSTRAINT TRIGGER late AFTER DELETE ON scheduled_actions "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()",
        ],
    ],
    ids=["a cascade that is forbidden", "a column that may not be null", "at the commit"],
)
def test_what_would_refuse_the_delete_of_this_row_is_tried_out(world, role, made):
    """By another way than a trigger that fires at once: it is found before the cancel, too."""
    role(*made)
    assert isinstance(attempt(world.deleter, world.made_task), DeletionNotPossible)
    assert world.schedule_ids(world.made_task)


def test_a_database_that_cannot_be_reached_is_no_new_knowledge(world, postgres, monkeypatch):
    """The statements of the deletion themselves will say so."""
    readiness = Readiness()
    readiness.refresh()
    monkeypatch.setattr("recoup.database.readiness.find_problems", lambda: [UNREACHABLE])
    readiness.refresh()
    assert readiness.problems(world.made_task) == []


def test_rows_that_are_hidden_are_no_orphans(world, role):
    """A row that was put back might not be seen: while that is so, nothing is collected."""
    task = world.made_task
    role(
        "ALTER ROLE {role} NOBYPASSRLS",
        f"INSERT INTO orphaned_schedules (task_id) VALUES ('{task}')",
        "ALTER TABLE scheduled_actions ENABLE ROW LEVEL SECURITY",
    )
    with pytest.raises(DatabaseFailed, match="Row level security"):
        list(sweep(world.deleter))
    assert world.schedule_ids(task)
    role("ALTER ROLE {role} BYPASSRLS")
    assert [one.state for one in sweep(world.deleter)] == ["kept"]
    assert world.schedule_ids(task)
