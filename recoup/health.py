"""`/healthz`: the process is up. `/readyz`: it can do its work. Neither asks Trigger.dev."""

import peewee
from flask import Blueprint
from playhouse.pool import MaxConnectionsExceeded

from recoup.models import missing_from_schema

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


def find_problems() -> list[str]:
    """Return what keeps the service from its work, a sentence each."""
    try:
        missing = missing_from_schema()
    except (peewee.PeeweeException, MaxConnectionsExceeded):
        return ["The database can't be reached."]
    if missing:
        return [f"The database lacks {', '.join(missing)}: run `recoup db upgrade`."]
    return []
