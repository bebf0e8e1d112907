"""`/healthz`: the process is up. `/readyz`: it can do its work. `/metrics`: what it has done.

None of them asks Trigger.dev.
"""

from flask import Blueprint, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from recoup import metrics
from recoup.database.connection import FAILURES
from recoup.database.models import missing_from_schema

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> dict[str, str]:
    """Answer as long as the process does."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def readyz() -> tuple[dict[str, object], int]:
    """Say whether the database is reachable and upgraded, and what is not."""
    problems = find_problems()
    if problems:
        return {"status": "not ready", "problems": problems}, 503
    return {"status": "ready"}, 200


@blueprint.get("/metrics")
def show_metrics() -> Response:
    """Answer what Prometheus asks for."""
    return Response(metrics.render(), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def find_problems() -> list[str]:
    """Return what keeps the service from its work, a sentence each."""
    try:
        missing = missing_from_schema()
    except FAILURES:
        return ["The database can't be reached."]
    if missing:
        return [f"The database lacks {', '.join(missing)}: run `recoup db upgrade`."]
    return []
