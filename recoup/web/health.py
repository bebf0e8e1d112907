"""`/healthz`: the process is up. `/readyz`: it can do its work. `/metrics`: what it has done.

None of them asks Trigger.dev.
"""

import logging

from flask import Blueprint, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from recoup import __version__, log, metrics
from recoup.database.readiness import find_problems
from recoup.deletion.gauges import Marks

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> dict[str, str]:
    """Answer as long as the process runs, with its version."""
    return {"status": "ok", "version": __version__}


@blueprint.get("/readyz")
def readyz() -> tuple[dict[str, object], int]:
    """Say whether anything is missing that a deletion needs, and what."""
    problems = find_problems()
    if problems:
        log.note(level=logging.WARNING, reason=" ".join(problems))
        return {"status": "not ready", "problems": problems}, 503
    return {"status": "ready"}, 200


@blueprint.get("/metrics")
def show_metrics() -> Response:
    """Answer with the metrics for Prometheus."""
    return Response(metrics.render(Marks()), content_type=CONTENT_TYPE_PLAIN_0_0_4)
