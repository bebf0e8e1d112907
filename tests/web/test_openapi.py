"""`/openapi.json`: valid, complete, and at one with the contract that callers know."""

import json

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from recoup.web.errors import FAILURES

# What Recoup's published reference says of `DELETE /api/tasks`, words for people left out.
CONTRACT_SCHEMAS = {
    "DeleteTaskRequest": {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {
                "type": "string",
                "format": "uuid",
                "example": "aade2bce-55c7-468e-a606-c4e76fb2ea2a",
            }
        },
    },
    "DeleteTaskResponse": {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string", "enum": ["success"]}},
    },
    "DeleteTaskValidationErrorResponse": {
        "type": "object",
        "required": ["status", "missing_fields", "error"],
        "properties": {
            "status": {"type": "string", "enum": ["error"]},
            "missing_fields": {
                "type": "array",
                "items": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            },
            "error": {"type": "string"},
        },
    },
    "Error": {
        "type": "object",
        "required": ["error", "message"],
        "properties": {
            "error": {"type": "integer", "format": "int32"},
            "message": {"type": "string"},
        },
    },
    "DeleteTaskFailureResponse": {
        "type": "object",
        "required": ["status", "error"],
        "properties": {
            "status": {"type": "string", "enum": ["error"]},
            "error": {"type": "string"},
        },
    },
}
CONTRACT_ANSWERS = {
    "200": "DeleteTaskResponse",
    "400": "DeleteTaskValidationErrorResponse",
    "401": "Error",
    "403": "Error",
    "404": "DeleteTaskFailureResponse",
    "500": "DeleteTaskFailureResponse",
}
CONTRACT_SECURITY = {
    "apiKeyAuth": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "bearerAuth": {"type": "http", "scheme": "bearer"},
}
# Flask adds these to a route by itself.
IMPLICIT_METHODS = {"HEAD", "OPTIONS"}


@pytest.fixture(name="database_url")
def _database_url(sqlite_url):
    """One database will do: the document knows of none."""
    return sqlite_url


@pytest.fixture(name="document")
def _document(client):
    response = client.get("/openapi.json")
    assert (response.status_code, response.mimetype) == (200, "application/json")
    return response.json


def essence(schema):
    """Return a schema without its words, and what is required as a set."""
    bare = {
        name: essence(value) if isinstance(value, dict) else value
        for name, value in schema.items()
        if name != "description"
    }
    return bare | {"required": set(schema["required"])} if "required" in schema else bare


def reference(content):
    """Return the name of the component that a JSON content refers to."""
    return content["application/json"]["schema"]["$ref"].removeprefix("#/components/schemas/")


def test_the_document_is_valid_openapi_3_1(document):
    """The validator of the OpenAPI specification has nothing to say against it."""
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_every_route_is_described_and_nothing_else(app, document):
    """Each rule and method is in the document, but for the page that shows it."""
    rules = {
        (rule.rule, method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - IMPLICIT_METHODS
        if not rule.endpoint.endswith("static") and not rule.endpoint.startswith("docs.")
    }
    described = {
        (path, method.upper()) for path, item in document["paths"].items() for method in item
    }
    assert described == rules


def test_the_schemas_are_the_contracts(document):
    """Names, types and what is required are the same; so a client made of either fits both."""
    schemas = document["components"]["schemas"]
    assert {name: essence(schema) for name, schema in schemas.items()} == {
        name: essence(schema) for name, schema in CONTRACT_SCHEMAS.items()
    }


def test_the_answers_are_the_contracts_and_one_for_too_large_a_body(document):
    """Each status has the contract's shape; 413 is ours."""
    responses = document["paths"]["/api/tasks"]["delete"]["responses"]
    assert {status: reference(answer["content"]) for status, answer in responses.items()} == {
        **CONTRACT_ANSWERS,
        "413": "DeleteTaskFailureResponse",
    }


def test_the_request_is_the_contracts(document):
    """The body is required, and either credential will do."""
    operation = document["paths"]["/api/tasks"]["delete"]
    assert operation["requestBody"]["required"] is True
    assert reference(operation["requestBody"]["content"]) == "DeleteTaskRequest"
    assert operation["security"] == [{"apiKeyAuth": []}, {"bearerAuth": []}]
    schemes = document["components"]["securitySchemes"]
    assert {name: essence(scheme) for name, scheme in schemes.items()} == CONTRACT_SECURITY


def test_the_server_is_wherever_the_document_is(document):
    """The address is relative, so that the document holds behind any host name."""
    assert document["servers"] == [{"url": "/"}]


def test_each_example_is_of_its_schema(document):
    """What is shown to people would pass as what it illustrates."""
    shown = 0
    for operation in document["paths"]["/api/tasks"].values():
        for part in (operation["requestBody"], *operation["responses"].values()):
            content = part["content"]["application/json"]
            schema = document["components"]["schemas"][reference(part["content"])]
            for example in content["examples"].values():
                Draft202012Validator(schema).validate(example["value"])
                shown += 1
    assert shown >= len(CONTRACT_ANSWERS)


def test_each_sentence_of_a_failure_is_an_example_with_a_summary(document):
    """Whoever reads a 500 finds its sentence, and in what state the task is, in the document."""
    answer = document["paths"]["/api/tasks"]["delete"]["responses"]["500"]
    examples = answer["content"]["application/json"]["examples"].values()
    assert {example["value"]["error"] for example in examples} == set(FAILURES.values())
    assert all(example["summary"] for example in examples)


def test_the_document_holds_no_setting(config, document):
    """Anyone may read it."""
    text = json.dumps(document)
    assert config.trigger_secret_key not in text
    assert config.privy_project_secret not in text
