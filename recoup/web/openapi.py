"""The API, described for machines: `/openapi.json`, made of the schemas that the code works with.

The shapes are those of the contract that callers know; a test compares the two.
"""

import json

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Blueprint
from marshmallow import Schema

from recoup import __version__
from recoup.web import schemas
from recoup.web.operations import PATHS, Object

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


DESCRIPTION = """\
Deletes a scheduled task together with its schedule at Trigger.dev, or leaves both as they were.

Any other path is answered `404` and any other method `405`, in the shape of
`DeleteTaskFailureResponse`. What is no valid HTTP is refused in that shape, too. Every other answer
has an `X-Request-ID`: yours, if you sent one of up to 64 letters, digits, dots, hyphens and
underscores.
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

DOCUMENT = json.dumps(make_document())
