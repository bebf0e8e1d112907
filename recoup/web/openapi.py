"""The API, described for machines: `/openapi.json`, made of the schemas that the code works with.

The shapes are those of the contract that callers know; a test compares the two.
"""

import json
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Blueprint
from marshmallow import Schema

from recoup import __version__
from recoup.web import schemas

Object = dict[str, Any]

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
def openapi() -> str:
    """Answer the document."""
    return DOCUMENT


def make_document() -> Object:
    """Return the OpenAPI document of the whole service."""
    spec = APISpec(
        title="Recoup task deletion",
        version=__version__,
        openapi_version="3.1.0",
        plugins=[MarshmallowPlugin()],
        info={"description": DESCRIPTION, "license": {"name": "MIT"}},
        servers=[{"url": "/"}],
        security=[],
        tags=[{"name": "tasks"}, {"name": "service"}],
    )
    for schema in SCHEMAS:
        spec.components.schema(schema.__name__, schema=schema)
    for name, scheme in SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    for path, operations in PATHS.items():
        spec.path(path, operations=operations)
    return spec.to_dict()


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


DESCRIPTION = """\
Deletes a scheduled task together with its schedule at Trigger.dev, or leaves both as they were.

Any other path is answered `404` and any other method `405`, in the shape of
`DeleteTaskFailureResponse`. Every answer has an `X-Request-ID`: yours, if you sent one of up to
64 letters, digits, dots, hyphens and underscores.
"""

SCHEMAS: tuple[type[Schema], ...] = (
    schemas.DeleteTaskRequest,
    schemas.DeleteTaskResponse,
    schemas.DeleteTaskValidationErrorResponse,
    schemas.DeleteTaskFailureResponse,
    schemas.Error,
)

SECURITY_SCHEMES: dict[str, Object] = {
    "apiKeyAuth": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "An API key.",
    },
    "bearerAuth": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key or a Privy access token. Send this or the other, not both.",
    },
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
            "No credential, two, or one that doesn't count.",
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
        "500": _failure(
            "Trigger.dev or the database failed, or too much is under way.",
            kept="The schedule could not be cancelled; the task was kept.",
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
        "Is the database reachable and upgraded?",
        {
            "200": _answer("It is.", _object(status={"const": "ready"}), ready={"status": "ready"}),
            "503": _answer(
                "It is not, and why.",
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

DOCUMENT = json.dumps(make_document())
