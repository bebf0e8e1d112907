"""What a module raises, and what the caller reads."""

import io
import json
import sys
from datetime import UTC, datetime

import pytest
from gunicorn.http.errors import ParseException
from werkzeug import exceptions

from recoup import log
from recoup.app import create_app
from recoup.auth.authenticator import Unauthenticated
from recoup.auth.privy import PrivyFailed
from recoup.database.connection import ConstraintFailed, DatabaseFailed
from recoup.deletion.outcomes import (
    AccessDenied,
    DeletionInDoubt,
    DeletionNotPossible,
    DeletionPending,
    DeletionRolledBack,
    DeletionUnfinished,
    TaskNotFound,
)
from recoup.web.errors import FAILURES
from recoup.web.limit import Overloaded
from recoup.web.schemas import InvalidBody
from tests.conftest import make_config

CANARY = "postgresql://admin:hunter2@10.0.0.7"

FAILED = {
    DatabaseFailed: "The database failed; nothing was changed. Ask again.",
    PrivyFailed: "The token could not be checked; nothing was changed. Ask again.",
    DeletionNotPossible: "Deletions are not possible now; nothing was changed.",
    DeletionInDoubt: (
        "The schedule may have been cancelled; within minutes the task is either deleted or found "
        "whole. Ask again to delete it now."
    ),
    DeletionRolledBack: "The schedule could not be cancelled; the task was kept.",
    DeletionPending: "The task is being deleted by another request. Ask again.",
    DeletionUnfinished: ("The deletion was interrupted; if it has begun, it will be completed."),
    Overloaded: "Too many deletions are under way; nothing was changed. Ask again.",
}


@pytest.fixture(name="ask")
def _ask(sqlite_url, standin):
    """Ask the app for a route that raises the error given; return the response."""
    app = create_app(make_config(sqlite_url, TRIGGER_API_URL=standin.url))
    raised = []

    @app.get("/raises")
    def raises():
        raise raised.pop() from ValueError(CANARY)

    def ask(error):
        raised.append(error)
        return app.test_client().get("/raises")

    return ask


@pytest.fixture(name="lines")
def _lines(ask):
    """Return what the app has logged, as one object a line."""
    stream = io.StringIO()
    log.configure(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    log.configure(sys.stdout)


def test_every_failure_is_listed_here():
    """A new failure needs a sentence, and a line in this test."""
    assert FAILURES.keys() == FAILED.keys()


@pytest.mark.parametrize("kind", FAILED)
def test_a_failure_is_a_500_with_its_sentence(ask, lines, kind):
    """The caller reads a sentence of ours; the reason is in the log and nowhere else."""
    response = ask(kind(CANARY))
    assert response.status_code == 500
    assert response.json == {"status": "error", "error": FAILED[kind]}
    assert CANARY not in response.text + str(response.headers)
    [line] = lines()
    assert (line["level"], line["error"]) == ("error", f"{kind.__name__}: {CANARY}")


def test_a_failure_of_a_narrower_kind_is_told_alike(ask):
    """What a subclass adds is for the rooms below, and not for the caller."""
    assert ask(ConstraintFailed(CANARY)).json["error"] == FAILED[DatabaseFailed]


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (
            InvalidBody("id is required", ["id"]),
            400,
            {"status": "error", "missing_fields": ["id"], "error": "id is required"},
        ),
        (
            InvalidBody("Invalid JSON body"),
            400,
            {"status": "error", "missing_fields": [], "error": "Invalid JSON body"},
        ),
        (
            exceptions.ClientDisconnected(CANARY),
            400,
            {"status": "error", "missing_fields": [], "error": "Invalid JSON body"},
        ),
        (
            ParseException(CANARY),
            400,
            {"status": "error", "missing_fields": [], "error": "Invalid JSON body"},
        ),
        (Unauthenticated("Unauthorized", CANARY), 401, {"error": 401, "message": "Unauthorized"}),
        (AccessDenied(CANARY), 403, {"error": 403, "message": "Access denied to this task"}),
        (TaskNotFound(CANARY), 404, {"status": "error", "error": "Task not found"}),
    ],
)
def test_a_callers_fault_has_its_status_and_shape(ask, lines, error, status, body):
    """Each is answered as the contract has it, and is no error in the log."""
    response = ask(error)
    assert (response.status_code, response.json) == (status, body)
    assert CANARY not in response.text
    assert [line["level"] for line in lines()] == ["info"]


def test_only_a_401_asks_for_a_credential(ask):
    """`WWW-Authenticate` comes with a missing credential, and with nothing else."""
    assert ask(Unauthenticated("x", "y")).headers["WWW-Authenticate"] == "Bearer"
    assert "WWW-Authenticate" not in ask(AccessDenied()).headers


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (exceptions.NotFound(CANARY), 404, "Not Found"),
        (exceptions.MethodNotAllowed(["PUT"], CANARY), 405, "Method Not Allowed"),
        (exceptions.RequestEntityTooLarge(CANARY), 413, "Request Entity Too Large"),
        (exceptions.RequestHeaderFieldsTooLarge(), 431, "Request Header Fields Too Large"),
        (exceptions.InternalServerError(CANARY), 500, "Internal Server Error"),
    ],
)
def test_an_error_of_http_is_json_with_its_status(ask, error, status, name):
    """The framework's own refusals have our shape, and no page of HTML."""
    response = ask(error)
    assert (response.status_code, response.content_type) == (status, "application/json")
    assert response.json == {"status": "error", "error": name}


def test_an_error_of_http_keeps_its_headers(ask):
    """`Allow` and `Retry-After` say what the body doesn't."""
    allow = ask(exceptions.MethodNotAllowed(["PUT"])).headers["Allow"]
    until = datetime(2999, 1, 1, tzinfo=UTC)
    retry_after = ask(exceptions.ServiceUnavailable(retry_after=until)).headers["Retry-After"]
    assert (allow, retry_after) == ("PUT", "Tue, 01 Jan 2999 00:00:00 GMT")


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, OSError, RecursionError, MemoryError])
def test_what_nobody_foresaw_is_a_500_that_tells_nothing(ask, lines, kind):
    """The text of an unexpected error stays in the log, with its traceback."""
    response = ask(kind(CANARY))
    assert response.status_code == 500
    assert response.json == {"status": "error", "error": "Internal server error"}
    assert CANARY not in response.text + str(response.headers)
    trace, line = lines()
    assert (trace["level"], line["level"], line["error"]) == ("error", "error", kind.__name__)
    assert CANARY in trace["traceback"]


@pytest.mark.parametrize("error", [DatabaseFailed(), RuntimeError(), exceptions.NotFound()])
def test_a_browser_may_read_every_error(ask, error):
    """CORS headers are on failures too: a page is to see the reason, and not a network error."""
    assert ask(error).headers.getlist("Access-Control-Allow-Origin") == ["*"]
