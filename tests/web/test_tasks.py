"""`DELETE /api/tasks` as its callers see it: who may do what, and each answer."""

import json
import logging
from datetime import timedelta
from uuid import uuid4

import pytest

from recoup.app import MAX_BODY_BYTES
from recoup.database import connection as db
from recoup.database.connection import is_postgres, release
from recoup.deletion.outcomes import DeletionNotPossible
from recoup.demo.standin import Fault
from recoup.web.errors import FAILURES
from tests.conftest import make_config
from tests.factories import delete, now

ADMINS = "3b1f0a52-8d2e-4c7a-9b64-5f0e7c1d2a38"
SUCCESS = (200, {"status": "success"})
INVALID_JSON = (400, {"status": "error", "missing_fields": [], "error": "Invalid JSON body"})
UNAUTHORIZED = (401, {"error": 401, "message": "Unauthorized"})
DENIED = (403, {"error": 403, "message": "Access denied to this task"})
NOT_FOUND = (404, {"status": "error", "error": "Task not found"})
DATABASE_FAILED = "The database failed; nothing was changed. Ask again."


@pytest.fixture(name="settings")
def _settings():
    """Settings of the app, beside the database and the stand-in; a test may have its own."""
    return {"RECOUP_ORG_ID": ADMINS}


@pytest.fixture(name="config")
def _config(database_url, standin, settings):
    return make_config(database_url, TRIGGER_API_URL=standin.url, **settings)


def outcome(response):
    """Return status and body of a response."""
    return response.status_code, response.json


def send(client, body, key=None, **kwargs):
    """Send a delete request with this body, a value or bytes, and *key* in `x-api-key`."""
    data = body if isinstance(body, bytes) else json.dumps(body)
    headers = {"x-api-key": key} if key else {}
    return client.delete("/api/tasks", data=data, headers=headers, **kwargs)


def execute(sql):
    """Do to the database what another program might."""
    db.execute(sql)
    release()


class TestDeleted:
    """A task that may be deleted goes, and its schedule with it."""

    def test_the_owner_is_answered_success_and_nothing_is_left(self, client, world):
        """200 means no row, no mark and no schedule."""
        owner = world.account()
        task = world.task(owner)
        assert outcome(delete(client, task, world.key(owner))) == SUCCESS
        assert (world.row(task), world.mark(task), world.schedule_ids(task)) == (None, None, [])

    def test_other_tasks_of_the_same_account_stay(self, client, world):
        """Only the task that was named goes."""
        owner = world.account()
        task, other = world.task(owner), world.task(owner)
        before = world.row(other)
        delete(client, task, world.key(owner))
        assert world.row(other) == before
        assert len(world.schedule_ids(other)) == 1

    def test_asking_again_is_answered_404(self, client, world):
        """A task that is gone is not there, and Trigger.dev is not asked again."""
        owner = world.account()
        task, key = world.task(owner), world.key(owner)
        delete(client, task, key)
        assert outcome(delete(client, task, key)) == NOT_FOUND
        assert world.standin.deletions.total() == 1

    @pytest.mark.parametrize("settings", [{"WEB_THREADS": "2"}])
    def test_a_place_is_free_again_whatever_became_of_the_deletion(self, client, world, settings):
        """With only one place, the next request gets it after a failure or a refusal."""
        owner = world.account()
        task, key = world.task(owner), world.key(owner)
        world.standin.fail(Fault.status(401))
        statuses = [delete(client, task, key).status_code]
        statuses.append(delete(client, task, "recoup_sk_unknown").status_code)
        statuses += [delete(client, task, key).status_code for _ in range(2)]
        assert statuses == [500, 401, 200, 404]

    def test_it_takes_four_statements_and_one_call(self, client, world, caplog):
        """Credential, task, mark and row are a statement each, and Trigger.dev is asked once."""
        owner = world.account()
        task, key = world.task(owner), world.key(owner)
        client.application.extensions["recoup"].deleter.readiness.refresh()
        with caplog.at_level(logging.DEBUG, "peewee"):
            assert outcome(delete(client, task, key)) == SUCCESS
        statements = [record.msg[0] for record in caplog.records if isinstance(record.msg, tuple)]
        verbs = [statement.split()[0] for statement in statements]
        # On SQLite the last transaction also takes back what the guard's trigger has recorded.
        last = ["DELETE"] if is_postgres() else ["DELETE", "DELETE"]
        assert verbs == ["SELECT", "SELECT", "INSERT", *last]
        assert len(world.standin.requests) == 1

    def test_the_schedule_is_cancelled_by_the_tasks_id_with_our_key(self, client, world, config):
        """Trigger.dev gets the task's id in the path, and the secret key of the settings."""
        owner = world.account()
        task = world.task(owner)
        delete(client, task, world.key(owner))
        [request] = world.standin.requests
        assert (request.method, request.path) == ("DELETE", f"/api/v1/schedules/{task}")
        assert request.headers["authorization"] == f"Bearer {config.trigger_secret_key}"

    def test_a_task_without_a_schedule_id_is_cancelled_by_its_own(self, client, world):
        """A row that lost its schedule's id is no reason to leave the schedule alive."""
        owner = world.account()
        task = world.task(owner, schedule=False)
        world.standin.add(task)
        assert outcome(delete(client, task, world.key(owner))) == SUCCESS
        assert (world.row(task), world.schedule_ids(task)) == (None, [])
        assert world.standin.deletions == {task: 1}

    def test_a_task_with_a_stale_schedule_id_is_cancelled_by_its_own(self, client, world):
        """Whether Trigger.dev knows the row's schedule or not, the task's own goes."""
        owner = world.account()
        task = world.task(owner, trigger_schedule_id="sched_stale")
        assert outcome(delete(client, task, world.key(owner))) == SUCCESS
        assert (world.row(task), world.schedule_ids(task)) == (None, [])
        assert world.standin.deletions == {task: 1}

    @pytest.mark.parametrize("schedule_id", [None, "sched_stale", "a stale/key?"])
    def test_a_task_whose_schedule_is_gone_already_can_be_deleted(self, client, world, schedule_id):
        """If nothing fires the task any more, only its row is left to delete."""
        owner = world.account()
        task = world.task(owner, schedule=False, trigger_schedule_id=schedule_id)
        assert outcome(delete(client, task, world.key(owner))) == SUCCESS
        assert world.row(task) is None

    def test_a_schedule_id_from_the_row_stays_one_part_of_the_path(self, client, world):
        """A row can't lead the call to another address of Trigger.dev's."""
        owner = world.account()
        task = world.task(owner, schedule=False, trigger_schedule_id="../runs?x=#1")
        delete(client, task, world.key(owner))
        assert [r.path for r in world.standin.requests] == [f"/api/v1/schedules/{task}"]

    @pytest.mark.parametrize("enabled", [True, False])
    def test_a_task_that_is_switched_off_is_deleted_too(self, client, world, enabled):
        """Its schedule exists either way."""
        owner = world.account()
        task = world.task(owner, enabled=enabled)
        assert outcome(delete(client, task, world.key(owner))) == SUCCESS
        assert world.schedule_ids(task) == []


class TestWhoMayDelete:
    """The owner, whoever shares an organization with it, and administrators; nobody else."""

    def test_a_member_of_a_shared_organization(self, client, world):
        """Accounts that share one of their organizations may act for each other."""
        shared = uuid4()
        owner = world.account(organizations=[uuid4(), shared])
        task = world.task(owner)
        colleague = world.account(organizations=[shared, uuid4()])
        assert outcome(delete(client, task, world.key(colleague))) == SUCCESS

    def test_an_administrator_whoever_owns_the_task(self, client, world):
        """A member of `RECOUP_ORG_ID` needs nothing in common with the owner."""
        task = world.task(world.account())
        admin = world.account(organizations=[ADMINS])
        assert outcome(delete(client, task, world.key(admin))) == SUCCESS

    def test_the_owner_of_an_account_without_any_organization(self, client, world):
        """Organizations only ever add to what an account may do."""
        owner = world.account()
        assert outcome(delete(client, world.task(owner), world.key(owner))) == SUCCESS

    def test_a_member_of_an_organization_of_its_own_is_denied(self, client, world):
        """An organization that the owner isn't in counts for nothing."""
        task = world.task(world.account())
        stranger = world.account(organizations=[uuid4()])
        assert_denied(client, world, task, world.key(stranger))

    def test_a_stranger_to_an_owner_in_an_organization_is_denied(self, client, world):
        """Neither does one that only the owner is in."""
        task = world.task(world.account(organizations=[uuid4()]))
        assert_denied(client, world, task, world.key(world.account()))

    def test_members_of_different_organizations_are_denied(self, client, world):
        """It has to be the same organization."""
        task = world.task(world.account(organizations=[uuid4()]))
        stranger = world.account(organizations=[uuid4()])
        assert_denied(client, world, task, world.key(stranger))

    def test_sharing_goes_no_further_than_one_step(self, client, world):
        """A colleague's colleague is a stranger."""
        here, there = uuid4(), uuid4()
        task = world.task(world.account(organizations=[here]))
        world.account(organizations=[here, there])
        stranger = world.account(organizations=[there])
        assert_denied(client, world, task, world.key(stranger))

    def test_an_administrators_task_is_not_everybodys(self, client, world):
        """That the owner is an administrator opens nothing to others."""
        task = world.task(world.account(organizations=[ADMINS]))
        stranger = world.account(organizations=[uuid4()])
        assert_denied(client, world, task, world.key(stranger))

    def test_an_organizations_id_as_account_is_nobody(self, client, world):
        """A key of the organization itself is no member's, not even the administrators'."""
        organization = uuid4()
        task = world.task(world.account(organizations=[organization, ADMINS]))
        assert_denied(client, world, task, world.key(organization))
        assert_denied(client, world, task, world.key(ADMINS))

    @pytest.mark.parametrize("settings", [{}, {"RECOUP_ORG_ID": str(uuid4())}])
    def test_no_administrators_but_those_of_the_setting(self, client, world, settings):
        """Unset, `RECOUP_ORG_ID` gives power to nobody; set, to no other organization."""
        task = world.task(world.account())
        member = world.account(organizations=[ADMINS])
        assert_denied(client, world, task, world.key(member))

    @pytest.mark.parametrize("settings", [{"RECOUP_ORG_ID": ADMINS.upper()}])
    def test_the_setting_may_be_in_upper_case(self, client, world, settings):
        """A UUID's letters mean the same in either case."""
        task = world.task(world.account())
        admin = world.account(organizations=[ADMINS])
        assert outcome(delete(client, task, world.key(admin))) == SUCCESS


def assert_denied(client, world, task, key):
    """Assert that deleting is answered 403, and that nothing has changed."""
    before = world.row(task)
    assert outcome(delete(client, task, key)) == DENIED
    assert (world.row(task), world.mark(task)) == (before, None)
    assert len(world.schedule_ids(task)) == 1
    assert world.standin.requests == []


# What keeps a task from being deleted: the request of a would-be deleter, and its answer.
GUARDS = {
    "no body": (lambda w, task: {"body": b""}, INVALID_JSON),
    "no JSON": (lambda w, task: {"body": b"{", "key": w.key(w.account())}, INVALID_JSON),
    "no object": (
        lambda w, task: {"body": [task]},
        (400, {"status": "error", "missing_fields": [], "error": "Body must be a JSON object"}),
    ),
    "no id": (
        lambda w, task: {"body": {"task_id": task}},
        (400, {"status": "error", "missing_fields": ["id"], "error": "id is required"}),
    ),
    "no string": (
        lambda w, task: {"body": {"id": [task]}},
        (400, {"status": "error", "missing_fields": ["id"], "error": "id must be a string"}),
    ),
    "no UUID": (
        lambda w, task: {"body": {"id": f"{{{task}}}"}},
        (400, {"status": "error", "missing_fields": ["id"], "error": "id must be a valid UUID"}),
    ),
    "no credential": (
        lambda w, task: {"body": {"id": task}},
        (
            401,
            {"error": 401, "message": "Exactly one of x-api-key or Authorization must be provided"},
        ),
    ),
    "unknown key": (lambda w, task: {"body": {"id": task}, "key": "recoup_sk_x"}, UNAUTHORIZED),
    "expired key": (
        lambda w, task: {
            "body": {"id": task},
            "key": w.key(w.row(task)["account_id"], expires_at=now() - timedelta(seconds=1)),
        },
        UNAUTHORIZED,
    ),
    "unknown task": (
        lambda w, task: {"body": {"id": str(uuid4())}, "key": w.key(w.row(task)["account_id"])},
        NOT_FOUND,
    ),
    "stranger": (lambda w, task: {"body": {"id": task}, "key": w.key(w.account())}, DENIED),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_what_a_guard_turns_away_has_changed_nothing(client, world, guard):
    """Each refusal has its exact answer, and row, mark and schedule are as if never asked."""
    make_request, answer = GUARDS[guard]
    task = world.task(world.account())
    request = make_request(world, task)
    before = world.row(task)
    assert outcome(send(client, **request)) == answer
    assert (world.row(task), world.mark(task)) == (before, None)
    assert len(world.schedule_ids(task)) == 1
    assert world.standin.requests == []


class TestOrder:
    """Body, credential, task, scope: the first that is wrong is the one that is answered."""

    def test_a_bad_body_comes_before_a_missing_credential(self, client):
        """Without JSON and without a key, the answer is about the JSON."""
        assert outcome(send(client, b"{")) == INVALID_JSON

    def test_a_bad_body_comes_before_a_bad_credential(self, client):
        """Without an id and with an unknown key, the answer is about the id."""
        assert send(client, {}, key="recoup_sk_unknown").json["missing_fields"] == ["id"]

    @pytest.mark.parametrize("key", [None, "recoup_sk_unknown"])
    def test_a_bad_credential_comes_before_an_unknown_task(self, client, world, key):
        """Without a credential nobody learns whether a task exists."""
        task = world.task(world.account())
        answer = delete(client, task, key)
        assert answer.status_code == 401
        assert outcome(delete(client, str(uuid4()), key)) == outcome(answer)

    def test_an_unknown_task_comes_before_the_scope(self, client, world):
        """What isn't there is not found, whoever asks."""
        key = world.key(world.account())
        assert outcome(delete(client, str(uuid4()), key)) == NOT_FOUND

    def test_the_scope_comes_before_trigger(self, client, world):
        """A stranger is denied even while Trigger.dev is down."""
        world.standin.stop()
        task = world.task(world.account())
        assert outcome(delete(client, task, world.key(world.account()))) == DENIED


class TestRequest:
    """What of a request counts, and what doesn't."""

    @pytest.mark.parametrize(
        "content_type",
        [None, "", "text/plain", "application/json; charset=latin-1", "multipart/form-data", "x"],
    )
    def test_the_content_type_does_not_matter(self, client, world, content_type):
        """The body is JSON, whatever it is called."""
        owner = world.account()
        body = {"id": world.task(owner)}
        answer = send(client, body, world.key(owner), content_type=content_type)
        assert outcome(answer) == SUCCESS

    def test_an_upper_case_id_names_the_same_task(self, client, world):
        """Letters of a UUID mean the same in either case."""
        owner = world.account()
        task = world.task(owner)
        assert outcome(delete(client, task.upper(), world.key(owner))) == SUCCESS
        assert (world.row(task), world.schedule_ids(task)) == (None, [])

    def test_a_strangers_account_id_opens_nothing(self, client, world):
        """The credential says who calls, and never the body."""
        owner = world.account()
        task = world.task(owner)
        body = {"id": task, "account_id": owner, "artist_account_id": owner}
        assert outcome(send(client, body, world.key(world.account()))) == DENIED
        assert world.row(task) is not None

    def test_a_schedule_id_in_the_body_cancels_nothing(self, client, world):
        """The row says which schedule goes, and never the body."""
        owner = world.account()
        task, other = world.task(owner), world.task(world.account())
        schedule = world.row(other)["trigger_schedule_id"]
        body = {"id": task, "trigger_schedule_id": schedule}
        assert outcome(send(client, body, world.key(owner))) == SUCCESS
        assert world.schedule_ids(other) == [schedule]

    def test_an_id_in_the_query_does_not_stand_in_for_the_body(self, client, world):
        """A body that was lost on the way is reported, and nothing is deleted."""
        owner = world.account()
        task = world.task(owner)
        answer = client.delete(f"/api/tasks?id={task}", headers={"x-api-key": world.key(owner)})
        assert outcome(answer) == INVALID_JSON
        assert world.row(task) is not None

    def test_a_body_may_be_as_long_as_the_limit_and_no_longer(self, client, world):
        """A byte more than 64 KiB is answered 413, and nothing is deleted."""
        owner = world.account()
        task, key = world.task(owner), world.key(owner)
        body = json.dumps({"id": task}).encode().ljust(MAX_BODY_BYTES)
        too_large = {"status": "error", "error": "Request Entity Too Large"}
        assert outcome(send(client, body + b" ", key)) == (413, too_large)
        assert world.row(task) is not None
        assert outcome(send(client, body, key)) == SUCCESS


class TestFailures:
    """What is not the caller's fault is a 500 with a sentence of ours, and the task stays."""

    @pytest.mark.parametrize("status", [400, 401, 403, 404])
    def test_a_refusal_of_triggers_keeps_the_task(self, client, world, status):
        """The row is as it was, the schedule lives, and Trigger.dev's words stay with us."""
        world.standin.always(Fault.status(status, b'{"error": "upstream\'s own words"}'))
        owner = world.account()
        task = world.task(owner)
        before = world.row(task)
        error = "The schedule could not be cancelled; the task was kept."
        answer = (500, {"status": "error", "error": error})
        assert outcome(delete(client, task, world.key(owner))) == answer
        assert (world.row(task), world.mark(task)) == (before, None)
        assert len(world.schedule_ids(task)) == 1

    def test_once_trigger_is_back_the_same_request_succeeds(self, client, world):
        """Asking again converges."""
        world.standin.fail(Fault.status(401))
        owner = world.account()
        task, key = world.task(owner), world.key(owner)
        assert delete(client, task, key).status_code == 500
        assert outcome(delete(client, task, key)) == SUCCESS
        assert world.schedule_ids(task) == []

    @pytest.mark.parametrize("table", ["scheduled_actions", "account_organization_ids"])
    def test_a_database_that_fails_is_no_404_and_no_403(self, client, world, table):
        """If the task can't be looked up, no answer claims that it is missing or another's."""
        task, key = world.task(world.account()), world.key(world.account())
        before = world.row(task)
        execute(f"ALTER TABLE {table} RENAME TO renamed")
        answer = (500, {"status": "error", "error": DATABASE_FAILED})
        assert outcome(delete(client, task, key)) == answer
        execute(f"ALTER TABLE renamed RENAME TO {table}")
        assert world.row(task) == before
        assert world.standin.requests == []

    def test_without_a_place_for_the_mark_nothing_is_cancelled(self, client, world):
        """A service whose database was never upgraded leaves every task alone."""
        owner = world.account()
        task, key = world.task(owner), world.key(owner)
        execute("DROP TABLE task_deletions")
        assert delete(client, task, key).json["error"] == FAILURES[DeletionNotPossible]
        assert world.row(task) is not None
        assert world.standin.requests == []

    def test_a_place_for_the_mark_that_is_lost_is_a_failure_of_the_database(self, client, world):
        """If it is lost after the last check of the tables, the statement itself fails."""
        owner = world.account()
        task, key = world.task(owner), world.key(owner)
        client.application.extensions["recoup"].deleter.readiness.refresh()
        execute("DROP TABLE task_deletions")
        answer = (500, {"status": "error", "error": DATABASE_FAILED})
        assert outcome(delete(client, task, key)) == answer
        assert world.row(task) is not None
        assert world.standin.requests == []


class TestHeaders:
    """Every answer is JSON that a browser may read, wherever its page came from."""

    @pytest.mark.parametrize(
        ("status", "method", "path", "body"),
        [
            (400, "DELETE", "/api/tasks", b""),
            (401, "DELETE", "/api/tasks", b'{"id": "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"}'),
            (404, "DELETE", "/api/tasks/", b""),
            (404, "DELETE", "/api//tasks", b""),
            (404, "DELETE", "/api/scheduled-actions/delete", b""),
            (404, "GET", "/api", b""),
            (405, "DELETE", "/", b""),
            (404, "GET", "/static/x", b""),
            (404, "OPTIONS", "/unknown", b""),
            (405, "GET", "/api/tasks", b""),
            (405, "BREW", "/api/tasks", b""),
            (413, "DELETE", "/api/tasks", b" " * (MAX_BODY_BYTES + 1)),
        ],
    )
    def test_a_refusal_is_json_with_cors(self, client, status, method, path, body):
        """A caller's fault is answered in our shape, to any origin, on any path."""
        for headers in ({}, {"Origin": "https://app.example"}, {"Origin": "null"}):
            answer = client.open(path, method=method, data=body, headers=headers)
            assert (answer.status_code, answer.content_type) == (status, "application/json")
            assert "error" in answer.json
            assert_open_to_any_origin(answer)

    def test_success_denial_and_failure_are_json_with_cors(self, client, world):
        """So are the answers to those who have a key."""
        owner = world.account()
        task = world.task(owner)
        world.standin.fail(Fault.status(401))
        keys = [world.key(world.account()), world.key(owner), world.key(owner), world.key(owner)]
        answers = [delete(client, task, key) for key in keys]
        assert [answer.status_code for answer in answers] == [403, 500, 200, 404]
        for answer in answers:
            assert answer.content_type == "application/json"
            assert_open_to_any_origin(answer)

    def test_cookies_are_never_asked_for(self, client):
        """Any origin may call, so no answer may invite a browser to send credentials of its own."""
        answer = client.delete("/api/tasks", headers={"Origin": "https://app.example"})
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Set-Cookie" not in answer.headers

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH"])
    def test_another_method_is_told_the_allowed_ones(self, client, method):
        """405 comes with `Allow`."""
        answer = client.open("/api/tasks", method=method)
        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) == {"DELETE", "OPTIONS"}

    def test_a_401_says_how_to_authenticate(self, client):
        """`WWW-Authenticate` is due with each 401, and says no more than the scheme."""
        answer = delete(client, str(uuid4()))
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_an_answer_that_is_no_401_does_not(self, client, world):
        """A 403 or 404 would send a browser to log in for nothing."""
        key = world.key(world.account())
        for task in (world.task(world.account()), str(uuid4())):
            assert "WWW-Authenticate" not in delete(client, task, key).headers

    def test_the_preflight_allows_the_request(self, client):
        """A browser may then send DELETE with either credential and a content type."""
        asked = {
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "DELETE",
            "Access-Control-Request-Headers": "authorization, content-type, x-api-key",
        }
        answer = client.options("/api/tasks", headers=asked)
        allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
        assert answer.status_code == 200
        assert sorted(allowed) == ["authorization", "content-type", "x-api-key"]
        assert "DELETE" in answer.headers["Access-Control-Allow-Methods"].split(", ")
        assert_open_to_any_origin(answer)

    def test_the_preflight_allows_no_header_that_is_not_ours(self, client):
        """What we don't read need not be sent."""
        asked = {
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "DELETE",
            "Access-Control-Request-Headers": "x-api-key, x-other",
        }
        answer = client.options("/api/tasks", headers=asked)
        allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
        assert sorted(allowed) == ["authorization", "content-type", "x-api-key"]


def assert_open_to_any_origin(answer):
    """Assert that a page of any origin may read the answer and its request id."""
    assert answer.headers.getlist("Access-Control-Allow-Origin") == ["*"]
    assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]
    assert answer.headers["X-Request-ID"]
