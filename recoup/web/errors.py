"""Turns the exceptions of all modules into answers. Only this module knows both.

The caller gets the contract's shape and one sentence of ours. The reason goes to the log.
"""

import logging
from typing import Any

from flask import Flask
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, HTTPException

from recoup import log
from recoup.auth.authenticator import Unauthenticated
from recoup.auth.privy import PrivyFailed
from recoup.database.connection import DatabaseFailed
from recoup.deletion.outcomes import (
    AccessDenied,
    DeletionInDoubt,
    DeletionNotPossible,
    DeletionPending,
    DeletionRolledBack,
    DeletionUnfinished,
    TaskNotFound,
)
from recoup.web.limit import Overloaded
from recoup.web.schemas import InvalidBody

Answer = tuple[dict[str, Any], int] | tuple[dict[str, Any], int, dict[str, str]]

# What a caller reads about a failure that is not the caller's own.
FAILURES = {
    DatabaseFailed: "The database failed; nothing was changed. Ask again.",
    PrivyFailed: "The token could not be checked; nothing was changed. Ask again.",
    DeletionNotPossible: "Deletions are not possible now; nothing was changed.",
    DeletionRolledBack: "The schedule could not be cancelled; the task was kept.",
    DeletionInDoubt: "The schedule may have been cancelled; within minutes the task is either "
    "deleted or found whole. Ask again to delete it now.",
    DeletionPending: "The task is being deleted by another request. Ask again.",
    DeletionUnfinished: "The deletion was interrupted; if it has begun, it will be completed.",
    Overloaded: "Too many deletions are under way; nothing was changed. Ask again.",
}

# What the log and `recoup_refusals_total` call it where the deletion was not even begun.
REFUSALS = {DeletionNotPossible: "not possible", Overloaded: "no place"}


def init_app(app: Flask) -> None:
    """Register the answer to each exception."""
    app.register_error_handler(InvalidBody, _invalid_body)
    app.register_error_handler(Unauthenticated, _unauthenticated)
    app.register_error_handler(AccessDenied, _access_denied)
    app.register_error_handler(TaskNotFound, _task_not_found)
    for failure in FAILURES:
        app.register_error_handler(failure, _failed)
    app.register_error_handler(ClientDisconnected, _bad_request)
    # gunicorn reads a chunked body only when the app does, and finds a broken one only then.
    app.register_error_handler(ParseException, _bad_request)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _invalid_body(error: InvalidBody) -> Answer:
    body = {"status": "error", "missing_fields": error.missing_fields, "error": str(error)}
    return body, 400


def _bad_request(error: Exception) -> Answer:
    """Answer to a body that did not come whole."""
    return _invalid_body(InvalidBody("Invalid JSON body"))


def _unauthenticated(error: Unauthenticated) -> Answer:
    log.note(reason=error.why)
    return {"error": 401, "message": str(error)}, 401, {"WWW-Authenticate": "Bearer"}


def _access_denied(error: AccessDenied) -> Answer:
    return {"error": 403, "message": "Access denied to this task"}, 403


def _task_not_found(error: TaskNotFound) -> Answer:
    return {"status": "error", "error": "Task not found"}, 404


def _failed(error: Exception) -> Answer:
    sentence = next(text for kind, text in FAILURES.items() if isinstance(error, kind))
    log.fail(error)
    refused = REFUSALS.get(type(error))
    if refused:
        log.note(refused=refused)
    return {"status": "error", "error": sentence}, 500


def _http_error(error: HTTPException) -> Answer:
    """Keep the status and its headers, such as `Allow`, with a body in our shape."""
    headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    return {"status": "error", "error": error.name}, error.code or 500, headers


def _unexpected(error: Exception) -> Answer:
    log.note(level=logging.ERROR, error=type(error).__name__)
    log.logger.exception(
        "unexpected error", extra={"fields": {"request_id": log.noted("request_id")}}
    )
    return {"status": "error", "error": "Internal server error"}, 500
