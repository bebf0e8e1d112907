"""Bodies: turns a request's bytes into a checked value, or into a reason for the caller.

The schemas of answers are for `/openapi.json`; `errors.py` makes the answers.
"""

import json
import re
from typing import Any, NoReturn, cast

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

# The contract's own example, and a task of the demo.
EXAMPLE_ID = "aade2bce-55c7-468e-a606-c4e76fb2ea2a"
# Stricter than `uuid.UUID()`, which accepts braces, `urn:uuid:` and the digits of any script.
_CANONICAL_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class InvalidBody(Exception):
    """The body is not valid by the contract.

    `missing_fields`: the path to the first invalid field; empty for the body as a whole.
    """

    def __init__(self, message: str, missing_fields: list[str] | None = None) -> None:
        super().__init__(message)
        self.missing_fields = missing_fields or []


class CanonicalUUID(fields.UUID):
    """A UUID written as 8-4-4-4-12 ASCII hex digits, in any case; loaded as text in lower case."""

    default_error_messages = {
        "required": "id is required",
        "null": "id must be a string",
        "not_string": "id must be a string",
        "invalid_uuid": "id must be a valid UUID",
    }

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(value, str):
            raise self.make_error("not_string")
        if not _CANONICAL_UUID.fullmatch(value):
            raise self.make_error("invalid_uuid")
        return value.lower()


class _Body(Schema):
    class Meta:
        unknown = EXCLUDE


class DeleteTaskRequest(_Body):
    """`{"id": "<uuid>"}`; other fields are ignored."""

    error_messages = {"type": "Body must be a JSON object"}

    id = CanonicalUUID(
        required=True,
        metadata={
            "description": "UUID of the task to delete",
            "example": EXAMPLE_ID,
        },
    )


def _status(word: str) -> fields.String:
    return fields.String(required=True, validate=validate.OneOf([word]))


def _sentence(description: str) -> fields.String:
    return fields.String(required=True, metadata={"description": description})


class DeleteTaskResponse(_Body):
    """The task is gone, and its schedule with it."""

    status = _status("success")


class DeleteTaskFailureResponse(_Body):
    """The task was not deleted."""

    status = _status("error")
    error = _sentence("What went wrong, for people")


class DeleteTaskValidationErrorResponse(DeleteTaskFailureResponse):
    """The body is not what it must be."""

    missing_fields = fields.List(
        fields.Raw(metadata={"oneOf": [{"type": "string"}, {"type": "integer"}]}),
        required=True,
        metadata={"description": "Path to the first wrong field; empty: the body as a whole"},
    )


class Error(_Body):
    """The caller is unknown, or may not do this."""

    error = fields.Integer(
        required=True, metadata={"format": "int32", "description": "The status once more"}
    )
    message = _sentence("Why, for people")


_delete_task = DeleteTaskRequest()


def read_task_id(body: bytes) -> str:
    """Return the task's id from the body of a delete request, in canonical lower case.

    Raises:
        InvalidBody: with what is wrong.
    """
    try:
        return cast(str, _delete_task.load(_parse(body))["id"])
    except ValidationError as error:
        field, messages = next(iter(cast(dict[str, list[str]], error.messages).items()))
        raise InvalidBody(messages[0], [] if field == "_schema" else [field]) from None


def _parse(body: bytes) -> Any:
    """Read JSON by RFC 8259: UTF-8, with or without a byte order mark, and no NaN."""
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InvalidBody("Invalid JSON body") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
