"""What the stand-in refuses of a schedule is what the real server refuses."""

import json

import pytest

from recoup.demo.messages import ROOT, Request
from recoup.demo.standin import StandIn

KEY = "tr_prod_standin"


@pytest.fixture
def trigger() -> StandIn:
    return StandIn(KEY)


def make(trigger, **options):
    """Ask for a schedule; return the status and the document of the answer."""
    body = {"task": "customer-prompt-task", "cron": "0 9 * * 1", "deduplicationKey": "k"} | options
    request = Request("POST", ROOT, {"authorization": KEY}, json.dumps(body).encode())
    answer = trigger.answer(request)
    return answer.status, json.loads(answer.body)


@pytest.mark.parametrize(
    "cron",
    [
        *("* * * * *", "0 9 * * 1", "*/5 * * * *", "5/15 * * * *", "0-30/10,45 1,2 * * *"),
        *("0 0 1 jan sun", "0 0 ? DEC Mon-Fri", "59 23 31 12 7", "5", "12 5", "@daily", " 0 9 * 1"),
    ],
)
def test_a_cron_that_the_real_server_takes_is_taken(trigger, cron):
    status, schedule = make(trigger, cron=cron)
    assert (status, schedule["generator"]["expression"]) == (200, cron)


@pytest.mark.parametrize(
    ("cron", "complaint"),
    [
        ("", "CRON expression is required"),
        ("0 0 0 * * *", "CRON expressions with seconds are not allowed"),
        ("nonsense", 'Validation error, cannot resolve alias "non"'),
        ("60 * * * *", "Constraint error, got value 60 expected range 0-59"),
        ("0 0 0 * *", "Constraint error, got value 0 expected range 1-31"),
        ("0 0 * 1-13 *", "Constraint error, got range 1-13 expected range 1-12"),
        ("0 0 * * 8", "Constraint error, got value 8 expected range 0-7"),
        ("30-10 * * * *", "Invalid range: 30-10"),
        ("*/0 * * * *", "Constraint error, cannot repeat at every 0 time."),
        ("1,,2 * * * *", "Invalid list value format"),
        ("1-2-3 * * * *", "Invalid range: 1-2-3"),
        ("x * * * *", "Invalid characters, got value: x"),
        ("\u0661 * * * *", "Invalid characters, got value: \u0661"),
        ("0 9 * foo *", 'Validation error, cannot resolve alias "foo"'),
    ],
)
def test_another_cron_is_refused_and_says_why(trigger, cron, complaint):
    assert make(trigger, cron=cron) == (422, {"error": f"Invalid cron expression: {complaint}"})
    assert trigger.schedules == {}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Tokyo", ""])
def test_a_time_zone_is_kept(trigger, zone):
    assert make(trigger, timezone=zone)[1]["timezone"] == (zone or "UTC")


@pytest.mark.parametrize("zone", ["Mars/Base", "../../etc/passwd", "/etc/passwd", "Europe", "a\0b"])
def test_a_time_zone_that_there_is_not_is_refused(trigger, zone):
    status, answer = make(trigger, timezone=zone)
    assert status == 422
    assert answer["error"].startswith(f"Invalid IANA timezone: '{zone}'. View the list of valid ")


@pytest.mark.parametrize("window", ["0m", "30m", "24h", "1440m", "0%", "30%", "100%"])
def test_a_window_is_part_of_a_schedule_until_a_post_without_it(trigger, window):
    assert make(trigger, window=window)[1]["window"] == window
    (schedule,) = trigger.schedules.values()
    assert schedule["window"] == window
    assert "window" not in make(trigger)[1]
    assert "window" not in schedule


@pytest.mark.parametrize(
    ("window", "complaint"),
    [
        ("1d", "must be a whole duration"),
        ("", "must be a whole duration"),
        ("030m", "must be a whole duration"),
        ("30", "must be a whole duration"),
        ("101%", "percentage cannot exceed 100%"),
        ("1441m", "duration cannot exceed 24 hours"),
        ("25h", "duration cannot exceed 24 hours"),
    ],
)
def test_another_window_is_refused_and_says_why(trigger, window, complaint):
    status, answer = make(trigger, window=window)
    assert (status, answer["error"]) == (400, "Invalid request body")
    assert complaint in answer["issues"][0]["message"]


def test_only_a_scheduled_task_gets_a_schedule(trigger):
    trigger.tasks["mine"] = "SCHEDULED"
    assert make(trigger, task="mine")[0] == 200
    assert make(trigger, task="plain-task")[0] == make(trigger, task="no-such-task")[0] == 422


def test_an_upsert_keeps_the_task_and_does_not_activate(trigger):
    _, made = make(trigger)
    trigger.schedules[made["id"]]["active"] = False
    _, again = make(trigger, task="other-task", cron="1 1 * * *")
    assert again["id"] == made["id"]
    assert (again["task"], again["active"]) == ("customer-prompt-task", False)
