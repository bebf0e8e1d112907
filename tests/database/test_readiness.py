"""Whether the database would let a deletion be finished, checked before one begins."""

from uuid import uuid4

import peewee
import psycopg
import pytest

from recoup.app import create_app
from recoup.database import readiness as readiness_module
from recoup.database import statements, waits
from recoup.database.connection import DatabaseFailed, execute, release
from recoup.database.orphans import record_orphan
from recoup.database.readiness import Readiness, find_problems
from recoup.deletion.outcomes import DeletionNotPossible
from recoup.deletion.sweep import sweep
from tests.conftest import close_database, make_config
from tests.deletion.test_staged import attempt
from tests.factories import World, connections_in_use, delete

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
            "ALTER TABLE account_emails RENAME TO gone",
            "ALTER TABLE gone RENAME TO account_emails",
            "The database lacks table account_emails: run `recoup db upgrade` as the owner of the "
            "tables.",
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
            "CREATE TABLE notes (task uuid REFERENCES scheduled_actions (id))",
            "INSERT INTO notes SELECT id FROM scheduled_actions",
        ],
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
        [
            "CREATE RULE soft AS ON DELETE TO scheduled_actions "
            "DO INSTEAD UPDATE scheduled_actions SET enabled = false WHERE id = OLD.id",
        ],
        [
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$",
            "CREATE TRIGGER recoup_keep BEFORE DELETE ON scheduled_actions "
            "FOR EACH ROW EXECUTE FUNCTION keep()",
        ],
    ],
    ids=[
        "a foreign key",
        "a cascade that is forbidden",
        "a column that may not be null",
        "at the commit",
        "a rule",
        "a trigger with our prefix",
    ],
)
def test_what_would_refuse_the_delete_of_this_row_is_tried_out(world, role, made):
    """By another way than a trigger that fires at once: it is found before the cancel, too."""
    role(*made)
    assert isinstance(attempt(world.deleter, world.made_task), DeletionNotPossible)
    assert world.schedule_ids(world.made_task)


NOTES = (
    "CREATE TABLE notes (task uuid REFERENCES scheduled_actions (id))",
    "INSERT INTO notes SELECT id FROM scheduled_actions",
)


def test_a_foreign_key_keeps_nothing_but_what_it_refers_to(world, role):
    """Other tasks are deleted, by whomever."""
    other, orphan = str(uuid4()), str(uuid4())
    role(
        *NOTES,
        "INSERT INTO scheduled_actions "
        "(id, title, prompt, schedule, account_id, artist_account_id, trigger_schedule_id) "
        f"SELECT '{other}', 't', 'p', 's', account_id, account_id, '{world.standin.add(other)}' "
        "FROM scheduled_actions",
    )
    assert find_problems() == []
    assert attempt(world.deleter, other) is None
    assert world.schedule_ids(other) == []
    world.standin.add(orphan)
    record_orphan(orphan, -1)
    release()
    assert [(one.task_id, one.state) for one in sweep(world.deleter)] == [(orphan, "cancelled")]
    assert isinstance(attempt(world.deleter, world.made_task), DeletionNotPossible)


@pytest.mark.parametrize("in_doubt", [False, True])
def test_what_was_left_in_the_middle_costs_no_schedule_either(world, role, in_doubt, caplog):
    """The owner of an expired mark may not have come to the cancel."""
    role(*NOTES)
    token = world.place_mark(world.made_task, lease_seconds=-1)
    if in_doubt:
        statements.turn_doubtful(world.made_task, token)
        past = "doubtful_since = '2020-01-01Z', lease_expires_at = '2020-01-01Z'"
        execute(f"UPDATE task_deletions SET {past}")
        world.standin.schedules.clear()
    release()
    [settled] = sweep(world.deleter)
    assert settled.state == ("in doubt" if in_doubt else "marked")
    assert "notes_task_fkey" in settled.reason
    [line] = [one.fields for one in caplog.records if one.message in ("doubt", "recovery")]
    # Neither a refusal nor a schedule that is missing: each would page somebody, for one row.
    assert (line["state"], line.get("missing"), line.get("refused")) == (settled.state, None, None)
    assert [request.method for request in world.standin.requests if request.method != "GET"] == []
    role("DELETE FROM notes")
    execute("UPDATE task_deletions SET lease_expires_at = '2020-01-01Z'")
    release()
    assert [one.state for one in sweep(world.deleter)] == ["deleted"]


def test_a_row_that_is_in_the_way_is_not_quoted(world, role):
    """It may have names, addresses and texts, which belong in no log."""
    role(
        "CREATE TABLE letters (task uuid NOT NULL "
        "REFERENCES scheduled_actions (id) ON DELETE SET NULL, body text)",
        "INSERT INTO letters SELECT id, 'Dear jane@example.com' FROM scheduled_actions",
    )
    refusal = str(attempt(world.deleter, world.made_task))
    assert "violates not-null constraint" in refusal
    assert "jane" not in refusal


def test_an_old_look_is_no_knowledge_where_a_new_one_fails(world, role, monkeypatch):
    """The database may have changed meanwhile."""
    readiness = world.deleter.readiness
    assert readiness.refresh() == []
    role("REVOKE DELETE ON scheduled_actions FROM {role}")
    lose_the_connection(monkeypatch, times=2)
    with pytest.raises(DatabaseFailed, match="lost"):
        readiness.refresh()
    assert isinstance(attempt(world.deleter, world.made_task), DatabaseFailed)
    assert isinstance(attempt(world.deleter, world.made_task), DeletionNotPossible)
    assert world.schedule_ids(world.made_task)
    assert world.mark(world.made_task) is None


def lose_the_connection(monkeypatch, times=1000):
    """Let the next looks fail, each after its first statement."""
    look = readiness_module.find_refusals

    def fail():
        nonlocal times
        times -= 1
        if times < 0:
            return look()
        raise peewee.OperationalError("lost")

    monkeypatch.setattr(readiness_module, "find_refusals", fail)


def test_before_anything_is_known_nothing_is_begun(world, role, monkeypatch):
    """A first look that fails is no look without problems."""
    role("REVOKE DELETE ON scheduled_actions FROM {role}")
    lose_the_connection(monkeypatch, times=1)
    assert isinstance(attempt(world.deleter, world.made_task), DatabaseFailed)
    assert world.schedule_ids(world.made_task)
    assert world.mark(world.made_task) is None


def test_a_look_that_fails_gives_its_connection_back(world, monkeypatch):
    """Also if that happens behind the first part."""

    def fail():
        raise peewee.OperationalError("lost")

    monkeypatch.setattr(readiness_module, "_host_may_refuse", fail)
    with pytest.raises(DatabaseFailed, match="lost"):
        Readiness().refresh()
    assert connections_in_use() == 0


HARMLESS = (
    "CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN OLD; END$$",
    "CREATE TRIGGER pass BEFORE DELETE ON scheduled_actions FOR EACH ROW EXECUTE FUNCTION pass()",
)


def test_a_row_that_another_deletes_meanwhile_is_not_found(world, role):
    """No trigger has kept it."""
    role(*HARMLESS)
    role("DELETE FROM scheduled_actions")
    assert Readiness().problems(world.made_task) == []


def test_a_lock_that_is_not_granted_is_no_refusal(world, role, postgres_url, monkeypatch):
    """The database fails now; the next request may be luckier."""
    monkeypatch.setattr(waits, "WAIT_SECONDS", 1)
    role(*HARMLESS)
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT FROM scheduled_actions FOR UPDATE")
        assert isinstance(attempt(world.deleter, world.made_task), DatabaseFailed)


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TRIGGER recoup_keep BEFORE DELETE ON scheduled_actions "
        "BEGIN SELECT RAISE(ABORT, 'no'); END",
        "CREATE TRIGGER keep BEFORE DELETE ON scheduled_actions BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TABLE runs (task TEXT REFERENCES scheduled_actions (id))",
    ],
)
def test_on_sqlite_the_delete_is_tried_out_too(sqlite_url, standin, made):
    """Where a trigger of others, or a foreign key, might stop it."""
    app = create_app(make_config(sqlite_url, TRIGGER_API_URL=standin.url))
    world = World(app, standin)
    task = world.task(world.account())
    execute(made)
    if "runs" in made:
        execute("INSERT INTO runs VALUES (?)", task)
    assert isinstance(attempt(app.extensions["recoup"].deleter, task), DeletionNotPossible)
    assert world.schedule_ids(task)
    assert world.mark(task) is None


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
