"""Any request made from our own document, valid or not, gets an answer that it describes.

All of schemathesis runs, each of its phases with each of its checks.
"""

import json
from collections import Counter

import pytest
import schemathesis
from schemathesis.config import HealthCheck
from schemathesis.engine import events, from_schema

from recoup.web.schemas import InvalidBody, read_task_id

EXAMPLES = 50


@pytest.fixture(name="openapi")
def _openapi(url):
    """Our document as it is served; the same requests are made of it in each run."""
    openapi = schemathesis.openapi.from_url(f"{url}/openapi.json")
    openapi.config.generation.update(deterministic=True, max_examples=EXAMPLES, database="none")
    # How long the requests take to make says nothing on a busy machine.
    openapi.config.suppress_health_check = [HealthCheck.too_slow]
    return openapi


def fuzz(openapi):
    """Send all that schemathesis thinks of; return the statuses, and what it objects to."""
    statuses, objections = Counter(), []
    for event in from_schema(openapi).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            objections.append(str(event.info))
        if isinstance(event, events.ScenarioFinished):
            statuses.update(answers(event.recorder))
            objections += failures(event.recorder)
    return statuses, objections


def answers(recorder):
    """Return method, path and status of each request that was answered."""
    return [
        (case.value.method, case.value.path, recorder.interactions[number].response.status_code)
        for number, case in recorder.cases.items()
        if number in recorder.interactions
    ]


def failures(recorder):
    """Return what the checks found, each with the curl line that shows it."""
    return [
        f"{check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
        for checks in recorder.checks.values()
        for check in checks
        if check.failure_info
    ]


def test_without_a_credential_each_answer_is_as_documented(openapi):
    """Somebody whom we don't know gets 400 or 401 from the route, and the rest works."""
    statuses, objections = fuzz(openapi)
    assert objections == []
    assert {status for method, _, status in statuses if method == "DELETE"} >= {400, 401}
    assert not statuses["DELETE", "/api/tasks", 200]
    assert statuses["GET", "/healthz", 200]
    assert statuses["GET", "/readyz", 200]


def test_with_a_key_each_answer_is_as_documented(openapi, world):
    """Somebody with a key gets 400 or 404 from the route, as no such task is there."""
    openapi.config.headers = {"x-api-key": world.key(world.account())}
    statuses, objections = fuzz(openapi)
    assert objections == []
    assert statuses["DELETE", "/api/tasks", 400] > EXAMPLES / 4
    assert statuses["DELETE", "/api/tasks", 404] > EXAMPLES / 4


def test_with_tasks_of_ones_own_each_answer_is_as_documented(openapi, world):
    """Where a valid id is made up, it becomes that of a task that is there: 200."""
    owner = world.account()
    openapi.config.headers = {"x-api-key": world.key(owner)}

    @openapi.hook
    def map_body(context, body):
        try:
            read_task_id(json.dumps(body).encode())
        except (InvalidBody, TypeError):
            return body
        return {**body, "id": world.task(owner)}

    statuses, objections = fuzz(openapi)
    assert objections == []
    assert statuses["DELETE", "/api/tasks", 200] > EXAMPLES / 4
