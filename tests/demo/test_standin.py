"""The stand-in for Trigger.dev answers as the real server does."""

import json
import time

import pytest

from recoup.demo.messages import ROOT, Request

TASK = "customer-prompt-task"
TASK_ID = "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"


def test_delete_by_id_answers_the_id_and_then_404(trigger, call):
    schedule_id = trigger.add(TASK_ID)
    first = call("DELETE", f"/{schedule_id}")
    second = call("DELETE", f"/{schedule_id}")
    assert (first.status_code, first.json()) == (200, {"id": schedule_id})
    assert (second.status_code, second.json()) == (404, {"error": "Schedule not found"})
    assert trigger.schedules == {}
    assert trigger.deletions[schedule_id] == 2


def test_delete_by_deduplication_key_answers_the_id(trigger, call):
    schedule_id = trigger.add(TASK_ID)
    assert call("DELETE", f"/{TASK_ID}").json() == {"id": schedule_id}


def test_the_key_is_percent_decoded(trigger, call):
    schedule_id = trigger.add("a/b?c d")
    assert call("DELETE", "/a%2Fb%3Fc%20d").json() == {"id": schedule_id}


def test_a_key_that_looks_like_an_id_is_an_id(trigger, call):
    trigger.add("sched_key")
    assert call("DELETE", "/sched_key").status_code == 404


def test_get_answers_the_schedule(trigger, call):
    schedule_id = trigger.add(TASK_ID, timezone="Europe/Berlin")
    schedule = call("GET", f"/{schedule_id}").json()
    assert schedule == trigger.schedules[schedule_id]
    assert schedule["type"] == "IMPERATIVE"
    assert schedule["deduplicationKey"] == schedule["externalId"] == TASK_ID
    assert schedule["timezone"] == "Europe/Berlin"
    assert call("GET", "/sched_unknown").status_code == 404


def test_put_updates_and_what_is_left_out_is_cleared(trigger, call):
    schedule_id = trigger.add(TASK_ID, timezone="Europe/Berlin")
    schedule = call("PUT", f"/{schedule_id}", json={"task": TASK, "cron": "1 2 * * *"}).json()
    assert schedule["id"] == schedule_id
    assert schedule["generator"]["expression"] == "1 2 * * *"
    assert schedule["timezone"] == "UTC"
    assert "externalId" not in schedule


def test_put_of_a_missing_id_makes_a_new_schedule_that_its_task_cannot_name(trigger, call):
    body = {"task": TASK, "cron": "* * * * *", "externalId": TASK_ID}
    schedule = call("PUT", "/sched_gone", json=body).json()
    assert schedule["id"] != "sched_gone"
    assert list(trigger.schedules) == [schedule["id"]]
    assert call("DELETE", f"/{TASK_ID}").status_code == 404


def test_post_makes_one_schedule_for_a_key(trigger, call):
    body = {"task": TASK, "cron": "* * * * *", "deduplicationKey": TASK_ID}
    first = call("POST", json=body).json()
    second = call("POST", json={**body, "cron": "0 0 * * *"}).json()
    assert first["id"] == second["id"]
    assert trigger.schedules[first["id"]]["generator"]["expression"] == "0 0 * * *"


@pytest.mark.parametrize("body", [{}, [], {"task": "t", "cron": 1, "deduplicationKey": "k"}])
def test_post_of_an_invalid_body_is_refused(call, body):
    answer = call("POST", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"] == "Invalid request body"


def test_post_of_no_json_is_a_server_error(call):
    assert call("POST", data="{").status_code == 500


def test_the_list_is_paged_and_newest_first(trigger, call):
    ids = [trigger.add(f"task-{n}") for n in range(25)]
    first, second = call("GET").json(), call("GET", "?page=2").json()
    assert [s["id"] for s in first["data"] + second["data"]] == ids[::-1]
    assert first["pagination"] == {"currentPage": 1, "totalPages": 2, "count": 25}
    assert len(call("GET", "?perPage=1000").json()["data"]) == 25
    assert call("GET", "?page=0").status_code == 400


def test_the_list_is_empty_without_a_deployment(trigger, call):
    schedule_id = trigger.add(TASK_ID)
    trigger.deployed = False
    assert call("GET").json()["data"] == []
    assert call("GET").json()["pagination"] == {"currentPage": 1, "totalPages": 1, "count": 0}
    assert call("DELETE", f"/{schedule_id}").status_code == 200


def test_a_delete_without_an_id_looks_like_a_success(trigger, call):
    trigger.add(TASK_ID)
    answer = call("DELETE")
    assert (answer.status_code, answer.json()["status"]) == (200, 405)
    assert len(trigger.schedules) == 1


def test_a_wrong_key_is_refused_without_acting(trigger, call):
    schedule_id = trigger.add(TASK_ID)
    answer = call("DELETE", f"/{schedule_id}", headers={"authorization": "Bearer tr_dev_other"})
    assert (answer.status_code, answer.json()) == (401, {"error": "Invalid or Missing API Key"})
    assert schedule_id in trigger.schedules


def test_no_key_is_a_problem_document(call):
    answer = call("DELETE", "/sched_x", headers={"authorization": None})
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["error"] == "No authorization header provided"


def test_an_unknown_path_is_an_html_page(call):
    answer = call("GET", "/a/b")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


def test_every_answer_of_a_route_carries_the_rate_limit_in_milliseconds(call):
    headers = call("GET").headers
    assert int(headers["x-ratelimit-remaining"]) < int(headers["x-ratelimit-limit"]) == 750
    assert 0 < int(headers["x-ratelimit-reset"]) - time.time() * 1000 <= 10_000
    assert "retry-after" not in headers
    assert "x-ratelimit-limit" not in call("OPTIONS").headers
    assert "x-ratelimit-limit" not in call("GET", headers={"authorization": None}).headers


def test_answers_come_in_chunks_but_for_those_from_before_the_routes(call):
    assert call("GET").headers["transfer-encoding"] == "chunked"
    assert call("DELETE", "/sched_x").headers["transfer-encoding"] == "chunked"
    keyless = call("GET", headers={"authorization": None})
    assert int(keyless.headers["content-length"]) == len(keyless.content) == 215
    assert "content-length" in call("GET", "/").headers


def test_an_answer_is_packed_for_those_who_take_it_so(call):
    assert call("GET", headers={"accept-encoding": "gzip"}).headers["content-encoding"] == "gzip"
    assert "content-encoding" not in call("GET", headers={"accept-encoding": None}).headers


def test_a_head_that_is_too_large_ends_the_connection(call):
    answer = call("GET", "/" + "k" * 17_000)
    assert (answer.status_code, answer.content, answer.headers["connection"]) == (431, b"", "close")
    assert call("GET").status_code == 200


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ("a%252Fb", {"a/b"}),
        ("100%25", {"100%"}),
        ("%2525", {"%"}),
        ("%25ff", {"%ff"}),
    ],
)
def test_a_key_is_decoded_twice_where_that_is_possible(trigger, call, sent, found):
    ids = {trigger.add(key): key for key in ("a/b", "a%2Fb", "100%", "%25", "%", "%ff")}
    answer = call("DELETE", f"/{sent}").json()
    assert {ids[answer["id"]]} == found == {trigger.requests[0].schedule_id}


@pytest.mark.parametrize("dots", [".", "%2e", "x/..", "x/%2E%2e"])
def test_dot_segments_are_resolved_before_the_route_is_looked_for(trigger, dots):
    """They leave the collection, which answers a DELETE with 200."""
    headers = {"authorization": trigger.secret_key}
    answer = trigger.answer(Request("DELETE", f"{ROOT}/{dots}", headers))
    assert (answer.status, json.loads(answer.body)["status"]) == (200, 405)


def test_requests_are_recorded_as_received(trigger, call):
    call("DELETE", "/a%2Fb", headers={"X-Canary": "1"})
    (request,) = trigger.requests
    assert (request.method, request.path) == ("DELETE", "/api/v1/schedules/a%2Fb")
    assert (request.schedule_id, request.headers["x-canary"]) == ("a/b", "1")
    assert request.fault is None
    assert request.at <= time.monotonic()
