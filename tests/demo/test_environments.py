"""Keys of several environments, as the real server takes them."""

import json

import pytest

from recoup.demo.messages import ROOT, Request
from recoup.demo.standin import StandIn

TASK_ID = "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"
PROD, DEV, PREVIEW = "tr_prod_standin", "tr_dev_other", "tr_preview_other"
OPTIONS = {"task": "customer-prompt-task", "cron": "0 9 * * 1"}


@pytest.fixture
def trigger() -> StandIn:
    return StandIn(PROD, other_keys=[DEV, PREVIEW])


def ask(trigger, key, method, path="", body=None, **headers):
    """Return the status and the document of an answer."""
    headers["authorization"] = f"Bearer {key}"
    request = Request(method, f"{ROOT}{path}", headers, json.dumps(body).encode())
    answer = trigger.answer(request)
    return answer.status, json.loads(answer.body)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("by", ["id", "key"])
def test_a_key_of_another_environment_finds_no_schedule(trigger, method, by):
    schedule_id = trigger.add(TASK_ID)
    path = f"/{schedule_id if by == 'id' else TASK_ID}"
    assert ask(trigger, DEV, method, path) == (404, {"error": "Schedule not found"})
    assert ask(trigger, DEV, "GET")[1] == {
        "data": [],
        "pagination": {"currentPage": 1, "totalPages": 0, "count": 0},
    }
    assert ask(trigger, PROD, method, path)[1]["id"] == schedule_id


def test_a_post_moves_the_schedule_of_its_deduplication_key_over(trigger):
    schedule_id = trigger.add(TASK_ID)
    status, moved = ask(trigger, DEV, "POST", body={**OPTIONS, "deduplicationKey": TASK_ID})
    assert (status, moved["id"]) == (200, schedule_id)
    assert [environment["type"] for environment in moved["environments"]] == ["DEVELOPMENT"]
    assert ask(trigger, PROD, "GET", f"/{schedule_id}")[0] == 404
    assert ask(trigger, DEV, "GET", f"/{TASK_ID}")[0] == 200


def test_a_schedule_of_two_environments_goes_from_both(trigger):
    schedule_id = trigger.add(TASK_ID)
    _, made = ask(trigger, DEV, "POST", body={**OPTIONS, "deduplicationKey": "x"})
    trigger.schedules[schedule_id]["environments"] += made["environments"]
    assert ask(trigger, DEV, "DELETE", f"/{TASK_ID}") == (200, {"id": schedule_id})
    assert ask(trigger, PROD, "GET", f"/{schedule_id}")[0] == 404


def test_a_preview_key_needs_its_branch(trigger):
    refused = (401, {"error": "Invalid or Missing API Key"})
    assert ask(trigger, PREVIEW, "GET") == refused
    assert ask(trigger, PREVIEW, "GET", **{"x-trigger-branch": ""}) == refused
    assert ask(trigger, PREVIEW, "GET", **{"x-trigger-branch": "feature"})[0] == 200


def test_a_preview_key_may_be_that_of_the_schedules():
    trigger = StandIn(PREVIEW)
    schedule_id = trigger.add(TASK_ID)
    path = f"/{schedule_id}"
    assert ask(trigger, PREVIEW, "DELETE", path)[0] == 401
    assert schedule_id in trigger.schedules
    assert ask(trigger, PREVIEW, "DELETE", path, **{"x-trigger-branch": "main"})[0] == 200
