"""The body of a request: bytes to a checked value, or a reason that the caller can act on."""

import json
import re
from typing import Any, NoReturn, cast

from marshmallow import EXCLUDE, Schema, ValidationError, fields

# Narrower than `uuid.UUID()`, which takes braces, `urn:uuid:` and any script's digits.
_CANONICAL_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class InvalidBody(Exception):
    """The body is not what the contract asks for.

    `missing_fields`: the path to the first field that is wrong, empty for the body as a whole.
    """

    def __init__(self, message: str, missing_fields: list[str] | None = None) -> None:
        super().__init__(message)
        self.missing_fields = missing_fields or []


class CanonicalUUID(fields.UUID):
    """A UUID written as 8-4-4-4-12 ASCII hex digits, in any case."""

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
        return super()._deserialize(value, *args, **kwargs)


class DeleteTaskSchema(Schema):
    """`{"id": "<uuid>"}`; what else is in it is ignored."""

    error_messages = {"type": "Body must be a JSON object"}

    id = CanonicalUUID(required=True)


_delete_task = DeleteTaskSchema(unknown=EXCLUDE)


def read_task_id(body: bytes) -> str:
    """Return the task's id from the body of a delete request, in canonical lower case.

    Raises:
        InvalidBody: naming what is wrong.
    """
    try:
        return str(_delete_task.load(_parse(body))["id"])
    except ValidationError as error:
        field, messages = next(iter(cast(dict[str, list[str]], error.messages).items()))
        raise InvalidBody(messages[0], [] if field == "_schema" else [field]) from None


def _parse(body: bytes) -> Any:
    """Read JSON as RFC 8259 has it: UTF-8 (a byte order mark may lead), and no NaN."""
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InvalidBody("Invalid JSON body") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
