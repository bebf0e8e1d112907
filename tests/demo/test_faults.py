"""The stand-in for Trigger.dev fails on demand, and can be stopped meanwhile."""

import socket
import time

import pytest
import requests

from recoup.demo.standin import Fault, StandIn
from tests.waiting import wait_for

TASK_ID = "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"


def test_queued_faults_are_used_up_one_a_matching_request(trigger, call):
    schedule_id = trigger.add(TASK_ID)
    trigger.fail(Fault.status(500), Fault.status(503), schedule_id=schedule_id)
    assert call("GET", f"/{schedule_id}").status_code == 200
    assert call("DELETE", "/sched_other").status_code == 404
    codes = [call("DELETE", f"/{schedule_id}").status_code for _ in range(3)]
    assert codes == [500, 503, 200]
    assert [r.fault for r in trigger.requests[-3:]] == ["status 500", "status 503", None]


def test_a_standing_fault_lasts_until_it_is_cleared(trigger, call):
    schedule_id = trigger.add(TASK_ID)
    trigger.always(Fault.status(422, b"{}", {"X-Should-Retry": "true"}))
    answers = [call("DELETE", f"/{schedule_id}") for _ in range(3)]
    assert [a.status_code for a in answers] == [422, 422, 422]
    assert answers[0].headers["x-should-retry"] == "true"
    trigger.clear()
    assert call("DELETE", f"/{schedule_id}").status_code == 200


@pytest.mark.parametrize("act", [False, True])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Fault.reset, "ConnectionResetError"),
        (Fault.close, "RemoteDisconnected"),
        (Fault.half_body, "IncompleteRead"),
        (lambda act: Fault.hang(0.05, act), "RemoteDisconnected"),
    ],
)
def test_a_lost_answer_says_nothing_of_what_was_done(trigger, call, make, message, act):
    schedule_id = trigger.add(TASK_ID)
    trigger.fail(make(act=act))
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)) as e:
        call("DELETE", f"/{schedule_id}")
    assert message in repr(e.value)
    assert (schedule_id in trigger.schedules) is not act
    assert call("DELETE", f"/{schedule_id}").status_code == (404 if act else 200)


def test_a_hang_that_acts_does_so_before_the_silence(trigger, call):
    schedule_id = trigger.add(TASK_ID)
    trigger.fail(Fault.hang(60, act=True))
    with pytest.raises(requests.ReadTimeout):
        call("DELETE", f"/{schedule_id}", timeout=0.2)
    assert schedule_id not in trigger.schedules


def test_a_delay_acts_after_the_wait_and_then_answers(trigger, call):
    schedule_id = trigger.add(TASK_ID)
    trigger.fail(Fault.delay(0.1))
    assert call("DELETE", f"/{schedule_id}").json() == {"id": schedule_id}
    assert time.monotonic() - trigger.requests[0].at >= 0.1


@pytest.mark.parametrize("where", ["headers", "body"])
def test_a_drip_sends_the_whole_real_answer_slowly(trigger, call, where):
    schedule_id = trigger.add(TASK_ID)
    trigger.fail(Fault.drip(0.001, act=True, where=where))
    assert call("DELETE", f"/{schedule_id}").json() == {"id": schedule_id}


def test_a_delay_acts_even_if_the_caller_has_gone(trigger, call):
    schedule_id = trigger.add(TASK_ID)
    trigger.fail(Fault.delay(0.3))
    with pytest.raises(requests.ReadTimeout):
        call("DELETE", f"/{schedule_id}", timeout=0.05)
    assert schedule_id in trigger.schedules
    wait_for(lambda: schedule_id not in trigger.schedules, seconds=10)


@pytest.mark.parametrize("act", [False, True])
def test_a_database_error_says_nothing_of_what_was_done(trigger, call, act):
    schedule_id = trigger.add(TASK_ID)
    trigger.fail(Fault.database_error(act=act))
    answer = call("DELETE", f"/{schedule_id}")
    assert (answer.status_code, answer.json()) == (422, {"error": "Internal Server Error"})
    assert (schedule_id in trigger.schedules) is not act


def test_other_words_are_a_success_that_names_no_schedule(trigger, call):
    schedule_id = trigger.add(TASK_ID)
    trigger.fail(Fault.other_words(), Fault.other_words(b"[]"))
    answers = [call("DELETE", f"/{schedule_id}") for _ in range(2)]
    assert [(a.status_code, a.json()) for a in answers] == [(200, {"ok": True}), (200, [])]
    assert schedule_id in trigger.schedules


def test_a_drip_outlasts_a_timeout_that_each_byte_renews(trigger, call):
    trigger.add(TASK_ID)
    trigger.fail(Fault.drip(0.02, act=True, where="body"))
    assert call("DELETE", f"/{TASK_ID}", timeout=0.5).status_code == 200
    assert time.monotonic() - trigger.requests[0].at > 0.5


def test_a_redirect_keeps_the_method(trigger, call):
    trigger.fail(Fault.redirect("http://127.0.0.1:9/elsewhere"))
    answer = call("DELETE", "/sched_x")
    assert (answer.status_code, answer.headers["location"]) == (307, "http://127.0.0.1:9/elsewhere")


def test_junk_is_a_page_whatever_the_status(trigger, call):
    schedule_id = trigger.add(TASK_ID)
    trigger.fail(Fault.junk())
    answer = call("DELETE", f"/{schedule_id}")
    assert answer.status_code == 200
    assert answer.text.startswith("<!DOCTYPE html>")
    assert schedule_id in trigger.schedules


def test_rate_limited_says_when_to_come_back_in_milliseconds(trigger, call):
    trigger.fail(Fault.rate_limited(30))
    answer = call("DELETE", "/sched_x")
    assert answer.status_code == 429
    assert answer.headers["content-type"].startswith("application/problem+json")
    reset = int(answer.headers["x-ratelimit-reset"])
    problem = answer.json()
    assert reset == problem["reset"]
    assert (problem["limit"], problem["remaining"]) == (750, -1)
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert problem["error"].startswith("Rate limit exceeded 0/750 requests remaining. Retry in ")
    assert 0 < reset - time.time() * 1000 <= 30_000
    assert "retry-after" not in answer.headers


def test_a_stop_ends_waits_and_open_connections_and_a_start_takes_the_same_port():
    trigger = StandIn()
    trigger.start()
    schedule_id, url = trigger.add(TASK_ID), trigger.url
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    trigger.always(Fault.hang(60))
    with socket.create_connection(address, 5) as idle, socket.create_connection(address, 5) as busy:
        busy.sendall(f"DELETE /api/v1/schedules/{schedule_id} HTTP/1.1\r\n\r\n".encode())
        wait_for(lambda: trigger.requests, seconds=10)
        trigger.stop()
        assert idle.recv(1) == busy.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 5)
    with trigger:
        assert trigger.url == url
        assert schedule_id in trigger.schedules
