"""What is asked and answered on each path, for `/openapi.json`, with examples.

The sentences of failures are those that `errors.py` answers with.
"""

from typing import Any

from recoup import __version__
from recoup.auth.privy import PrivyFailed
from recoup.database.connection import DatabaseFailed
from recoup.deletion.outcomes import (
    DeletionInDoubt,
    DeletionNotPossible,
    DeletionPending,
    DeletionRolledBack,
    DeletionUnfinished,
)
from recoup.web import schemas
from recoup.web.errors import FAILURES
from recoup.web.limit import Overloaded

Object = dict[str, Any]


def _answer(description: str, schema: str | Object, **examples: Object) -> Object:
    values = {name: {"value": value} for name, value in examples.items()}
    return {
        "description": description,
        "headers": {"X-Request-ID": REQUEST_ID},
        "content": {"application/json": {"schema": schema, "examples": values}},
    }


def _failure(description: str, **sentences: str) -> Object:
    examples = {name: {"status": "error", "error": text} for name, text in sentences.items()}
    return _answer(description, "DeleteTaskFailureResponse", **examples)


def _failed(description: str) -> Object:
    """Describe the answer to a failure that is not the caller's, with all that it may say."""
    sentences = {name: FAILURES[kind] for name, (kind, _) in FAILED.items()}
    answer = _failure(description, **sentences)
    for name, example in answer["content"]["application/json"]["examples"].items():
        example["summary"] = FAILED[name][1]
    return answer


def _object(**properties: Object) -> Object:
    return {"type": "object", "required": list(properties), "properties": properties}


def _get(name: str, summary: str, responses: Object) -> Object:
    return {
        "get": {
            "tags": ["service"],
            "operationId": name,
            "summary": summary,
            "responses": responses,
        }
    }


# In what state each leaves the task, and why; the first is what is shown first.
FAILED: dict[str, tuple[type[Exception], str]] = {
    "kept": (DeletionRolledBack, "kept: Trigger.dev refused, or can't be reached"),
    "inDoubt": (DeletionInDoubt, "in doubt: Trigger.dev may have acted; it settles automatically"),
    "pending": (DeletionPending, "under way: by another request"),
    "unfinished": (DeletionUnfinished, "interrupted: if it has begun, it will be completed"),
    "overloaded": (Overloaded, "refused: too many deletions are under way"),
    "notPossible": (DeletionNotPossible, "refused: the database would not let it be finished"),
    "databaseFailed": (DatabaseFailed, "not begun: the database failed"),
    "tokenNotChecked": (PrivyFailed, "not begun: Privy did not answer"),
}

TEXT = {"type": "string"}
REQUEST_ID = {"description": "The log has it too.", "required": True, "schema": TEXT}
CHALLENGE = {"required": True, "schema": TEXT}

DELETE_TASK: Object = {
    "tags": ["tasks"],
    "operationId": "deleteTask",
    "summary": "Delete scheduled task",
    "description": "Asking again is safe: it ends in `200`, or in `404` once the task is gone.",
    "security": [{"apiKeyAuth": []}, {"bearerAuth": []}],
    "requestBody": {
        "description": "Names the task; what else the object holds is ignored.",
        "required": True,
        "content": {
            "application/json": {
                "schema": "DeleteTaskRequest",
                "examples": {"deleteTask": {"value": {"id": schemas.EXAMPLE_ID}}},
            }
        },
    },
    "responses": {
        "200": _answer(
            "The task is gone, and its schedule with it.",
            "DeleteTaskResponse",
            deleted={"status": "success"},
        ),
        "400": _answer(
            "The body is no JSON object, or its `id` is no UUID.",
            "DeleteTaskValidationErrorResponse",
            noId={"status": "error", "missing_fields": ["id"], "error": "id is required"},
            notJson={"status": "error", "missing_fields": [], "error": "Invalid JSON body"},
        ),
        "401": _answer(
            "No credential, two, or an invalid one.",
            "Error",
            unauthorized={"error": 401, "message": "Unauthorized"},
        ),
        "403": _answer(
            "The task's account is outside the caller's scope.",
            "Error",
            denied={"error": 403, "message": "Access denied to this task"},
        ),
        "404": _failure("There is no such task.", notFound="Task not found"),
        "413": _failure("The body is over 64 KiB.", tooLarge="Request Entity Too Large"),
        "500": _failed(
            "Trigger.dev or the database failed, or too much is under way. `error` says how the "
            "task stands. Most often it is as it was. *In doubt* means that the row is kept, and "
            "the schedule may be gone, as Trigger.dev did not say; within minutes that settles "
            "automatically, and the task is deleted or whole."
        ),
    },
}
DELETE_TASK["responses"]["401"]["headers"]["WWW-Authenticate"] = CHALLENGE

PATHS: dict[str, Object] = {
    "/api/tasks": {"delete": DELETE_TASK},
    "/healthz": _get(
        "healthz",
        "Is the process up?",
        {
            "200": _answer(
                "It is, and this version of it.",
                _object(status={"const": "ok"}, version=TEXT),
                up={"status": "ok", "version": __version__},
            )
        },
    ),
    "/readyz": _get(
        "readyz",
        "Is all there that a deletion needs?",
        {
            "200": _answer("It is.", _object(status={"const": "ready"}), ready={"status": "ready"}),
            "503": _answer(
                "Something is missing, and what.",
                _object(
                    status={"const": "not ready"},
                    problems={"type": "array", "items": TEXT},
                ),
                gone={"status": "not ready", "problems": ["The database can't be reached."]},
            ),
        },
    ),
    "/metrics": _get(
        "metrics",
        "What was counted, for Prometheus",
        {
            "200": {
                "description": "Prometheus' text format.",
                "headers": {"X-Request-ID": REQUEST_ID},
                "content": {"text/plain": {"schema": TEXT}},
            }
        },
    ),
    "/openapi.json": _get(
        "openapi", "This document", {"200": _answer("OpenAPI 3.1.", {"type": "object"})}
    ),
}
