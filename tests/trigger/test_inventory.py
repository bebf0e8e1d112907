"""Trigger.dev's schedules are listed, looked up and made completely, or an error says why not.

The other side is the stand-in on a real socket.
"""

import time

import pytest

from recoup.demo.messages import json_answer
from recoup.demo.standin import Fault
from recoup.reconcile.repair import restore
from recoup.trigger import inventory as module
from recoup.trigger.inventory import InventoryFailed, ScheduleInventory
from recoup.trigger.schedule import ScheduleSchema
from tests.conftest import make_config

CALL_SECONDS = 2.0
KEY = "tr_dev_standin"
TASK = "4d2e9a1c-5b6f-4c3d-8e7a-9f0b1c2d3e4f"
WAITED = 0.3
SAID = "Something went wrong, please try again"


@pytest.fixture(autouse=True)
def _unpaced(monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_REQUESTS", 0)


@pytest.fixture
def inventory(standin):
    return ScheduleInventory(standin.url, KEY, CALL_SECONDS)


def meanwhile(action):
    """Let something happen just before a request is answered, as it should be."""

    def play(exchange):
        action()
        exchange.deliver(exchange.answer())

    return Fault("meanwhile", play)


def undisturbed():
    return meanwhile(lambda: None)


def ignore(done, total):
    """Watch nothing."""


def listed(inventory):
    return [schedule.id for schedule in inventory.list_all(ignore)]


def failure(call, *args):
    with pytest.raises(InventoryFailed) as caught:
        call(*args)
    message = str(caught.value)
    assert KEY not in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
def test_every_page_is_read(inventory, standin, count):
    """A hundred to a page; each schedule once."""
    ids = [standin.add(f"task-{number}") for number in range(count)]
    watched = []
    found = inventory.list_all(lambda *progress: watched.append(progress))
    assert [schedule.id for schedule in found] == ids[::-1]
    assert watched[-1] == (count, count)
    assert len(standin.requests) == max(1, -(-count // 100))
    assert all("perPage=100" in request.path for request in standin.requests)


def test_a_schedule_is_read_with_all_that_restoring_needs(inventory, standin):
    """What it doesn't have is None, and what we don't know stays in `raw`."""
    schedule_id = standin.add(TASK, timezone="Asia/Tokyo", window="30m", active=False)
    bare = standin.add(TASK, externalId=None)
    del standin.schedules[bare]["deduplicationKey"]
    without, schedule = inventory.list_all(ignore)
    assert (schedule.id, schedule.task, schedule.cron, schedule.timezone) == (
        schedule_id,
        "customer-prompt-task",
        "0 9 * * *",
        "Asia/Tokyo",
    )
    assert (schedule.active, schedule.declarative) == (False, False)
    assert (schedule.external_id, schedule.deduplication_key) == (TASK, TASK)
    assert schedule.raw == {**standin.schedules[schedule_id], "nextRun": None}
    assert (without.id, without.external_id, without.deduplication_key) == (bare, None, None)


def test_a_schedule_made_while_the_list_is_read_starts_it_anew(inventory, standin):
    """It moves the last of one page to the next."""
    ids = [standin.add(f"task-{number}") for number in range(150)]
    standin.fail(undisturbed(), meanwhile(lambda: ids.append(standin.add("new"))), method="GET")
    assert listed(inventory) == ids[::-1]
    assert len(standin.requests) == 4


def test_a_schedule_deleted_while_the_list_is_read_starts_it_anew(inventory, standin):
    """It moves the first of the next page to the page before; that one is not skipped."""
    ids = [standin.add(f"task-{number}") for number in range(150)]

    def delete_newest():
        del standin.schedules[ids.pop()]

    standin.fail(undisturbed(), meanwhile(delete_newest), method="GET")
    assert listed(inventory) == ids[::-1]


def test_one_made_and_one_deleted_are_seen_by_what_is_twice(inventory, standin):
    """The count alone would not tell."""
    ids = [standin.add(f"task-{number}") for number in range(150)]

    def replace_the_oldest():
        ids.append(standin.add("new"))
        del standin.schedules[ids.pop(0)]

    standin.fail(undisturbed(), meanwhile(replace_the_oldest), method="GET")
    assert listed(inventory) == ids[::-1]


def enlarge(standin, *sizes):
    """Add schedules with external ids of these sizes, which no limit keeps short."""
    return [standin.add("x" * size, deduplicationKey=f"key-{n}") for n, size in enumerate(sizes)]


def test_a_page_that_is_too_large_is_read_smaller(inventory, standin):
    """A hundred schedules with an external id of 12 kB each are 1.24 MB."""
    ids = enlarge(standin, *[12_000] * 120)
    assert listed(inventory) == ids[::-1]
    sizes = [request.path.rpartition("=")[2] for request in standin.requests]
    assert sizes == ["100", "50", "50", "50"]


def test_a_page_is_read_down_to_a_single_schedule(inventory, standin):
    """Each schedule that fits alone is read."""
    ids = enlarge(standin, 600_000, 600_000)
    assert listed(inventory) == ids[::-1]
    assert standin.requests[-1].path.endswith("?page=2&perPage=1")


def test_a_schedule_that_is_too_large_by_itself_is_told_plainly(inventory, standin):
    """Nothing smaller can be asked for."""
    enlarge(standin, 1_200_000)
    message = failure(listed, inventory)
    assert message == "a schedule in Trigger.dev's list is larger than 1,024 KiB"
    assert len(standin.requests) == 7


def test_a_list_that_never_stands_still_is_given_up(inventory, standin):
    """A part of it would be taken for the whole."""
    for number in range(150):
        standin.add(f"task-{number}")
    standin.always(meanwhile(lambda: standin.add("new")), method="GET")
    assert "kept changing" in failure(listed, inventory)


def test_a_schedule_is_found_by_its_id_and_by_its_key(inventory, standin):
    """The key of a task is its own id."""
    schedule_id = standin.add(TASK)
    assert inventory.get(schedule_id) == inventory.get(TASK)
    assert inventory.get(TASK).id == schedule_id


def test_an_answer_about_another_schedule_is_not_taken_for_it(inventory, standin):
    """It must bear the name that was asked for."""
    other = standin.schedules[standin.add("another")]
    standin.fail(Fault.status(200, json_answer(200, other).body), method="GET")
    assert inventory.get(TASK) is None


def test_what_was_no_answer_is_forgotten_when_one_comes(inventory, standin):
    """First a proxy's answer, then the server's: there is no schedule."""
    standin.fail(Fault.other_words(), method="GET")
    assert inventory.get(TASK) is None
    assert len(standin.requests) == 2


def test_the_schedule_of_another_key_is_not_taken_for_it(inventory, standin):
    """The server undoes an escape that is in a key: it finds the one of `a`."""
    standin.add("x", deduplicationKey="a")
    standin.add("y", deduplicationKey="%61")
    assert inventory.get("%61") is None
    assert standin.requests == []


@pytest.mark.parametrize("key", ["sched_gone", "sched_a/b", "..", ".", "a/b", "?page=1", "ü"])
def test_no_schedule_is_found_where_there_is_none(inventory, standin, key):
    """Whatever the key is; it never becomes another request."""
    standin.add(TASK)
    assert inventory.get(key) is None


def test_deleting_what_is_gone_is_no_failure(inventory, standin):
    """Somebody else was faster."""
    standin.add(TASK)
    (schedule,) = inventory.list_all(ignore)
    inventory.delete(schedule)
    inventory.delete(schedule)
    assert standin.schedules == {}


def remade(inventory, standin, **fields):
    """Delete a schedule with *fields* and make it again; return what it was, and is."""
    schedule_id = standin.add(TASK, **fields)
    before = standin.schedules.pop(schedule_id)
    schedule = ScheduleSchema().load(before)
    assert inventory.make(schedule).id == inventory.make(schedule).id
    (after,) = standin.schedules.values()
    assert after["id"] != schedule_id
    return before, after


def test_a_schedule_is_made_again_as_it_was(inventory, standin):
    """Twice makes one."""
    cron = {"type": "CRON", "expression": "5 4 * * 0", "description": "Cron 5 4 * * 0"}
    fields = {"timezone": "Asia/Tokyo", "generator": cron, "window": "30%"}
    before, after = remade(inventory, standin, **fields)
    new = ("id", "nextRun")
    assert {k: v for k, v in before.items() if k not in new} == {
        k: v for k, v in after.items() if k not in new
    }


def test_one_without_a_key_gets_a_lasting_one(inventory, standin):
    """By which it is found when it is made the second time."""
    before, after = remade(inventory, standin, deduplicationKey=None, externalId=None)
    assert after["deduplicationKey"] == f"restored-{before['id']}"
    assert "externalId" not in after


def test_one_that_was_switched_off_stays_off(inventory, standin):
    """A schedule made anew is on by itself."""
    _, after = remade(inventory, standin, active=False)
    assert after["active"] is False


def test_one_that_was_left_on_is_switched_off_the_next_time(inventory, standin):
    """A restore that broke off between making and switching off is completed by another."""
    before, after = remade(inventory, standin, active=False)
    after["active"] = True
    assert restore(inventory, ScheduleSchema().load(before)) == (after["id"], False)
    assert after["active"] is False


def test_the_rate_limit_is_waited_for(inventory, standin):
    """Even where it lasts longer than a request may take."""
    standin.add(TASK)
    standin.fail(Fault.rate_limited(CALL_SECONDS + WAITED), method="GET")
    started = time.monotonic()
    assert len(listed(inventory)) == 1
    assert time.monotonic() - started >= CALL_SECONDS
    assert len(standin.requests) == 2


def test_a_rate_limit_that_is_never_lifted_is_given_up(inventory, standin):
    """The operator learns why."""
    standin.always(Fault.rate_limited(10 * module.RATE_LIMIT_PATIENCE_SECONDS), method="GET")
    message = failure(listed, inventory)
    assert message.startswith("Trigger.dev answered 429: Rate limit exceeded 0/750 requests ")
    assert message.endswith("; other programs use up the rate limit")


def test_requests_keep_a_pace(inventory, standin, monkeypatch):
    """Most of the rate limit is left to others."""
    monkeypatch.setattr(module, "SECONDS_BETWEEN_REQUESTS", WAITED)
    for _ in range(3):
        inventory.get(TASK)
    arrivals = [request.at for request in standin.requests]
    assert arrivals[-1] - arrivals[0] >= WAITED


@pytest.mark.parametrize(
    "fault",
    [Fault.status(500), Fault.reset(), Fault.half_body(act=True), Fault.junk(), Fault.close()],
    ids=lambda fault: fault.kind,
)
def test_a_passing_fault_is_tried_again(inventory, standin, fault):
    """A list whose end is missing is none."""
    standin.add(TASK)
    standin.fail(fault, method="GET")
    assert len(listed(inventory)) == 1


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        (Fault.status(401), f"answered 401: {SAID}; check TRIGGER_SECRET_KEY"),
        (Fault.status(403), f"answered 403: {SAID}; check TRIGGER_SECRET_KEY"),
        (Fault.status(404), f"answered 404: {SAID}; check TRIGGER_API_URL"),
        (Fault.status(503), f"answered 503: {SAID}; check TRIGGER_API_URL, or try again later"),
        (Fault.junk(502), "answered 502; check TRIGGER_API_URL, or try again later"),
        (Fault.junk(), "answered 200, but not with JSON; check TRIGGER_API_URL"),
        (Fault.status(200, b"[" * 100_000), "not with JSON"),
        (Fault.status(200, b"[]"), "is not understood"),
        (Fault.status(200, json_answer(200, {"data": []}).body), "is not understood"),
        (Fault.redirect("https://example.com/"), "answered 307"),
        (Fault.hang(60), "could not be reached (no answer within"),
        (Fault.drip(0.1, act=True, where="body"), "could not be reached (no answer within"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_lasting_fault_is_told_with_a_hint(inventory, standin, fault, hint):
    """In one line, without the key, and in time."""
    standin.add(TASK)
    standin.always(fault, method="GET")
    started = time.monotonic()
    assert hint in failure(listed, inventory)
    assert time.monotonic() - started < CALL_SECONDS + 5


@pytest.mark.parametrize(
    "said",
    [
        "You have created 10/10 schedules so you'll need to increase your limits",
        "Invalid IANA timezone: 'Mars/Base'",
    ],
)
def test_of_a_422_its_own_words_are_told_and_nothing_is_guessed(inventory, standin, said):
    """It may mean a plan without room, a task that is unknown, a cron, a time zone."""
    schedule = ScheduleSchema().load(standin.schedules[standin.add(TASK)])
    standin.always(Fault.status(422, json_answer(422, {"error": said}).body), method="POST")
    assert failure(inventory.make, schedule) == f"Trigger.dev answered 422: {said}"
    assert len(standin.requests) == 1


def test_a_failing_database_of_the_servers_is_tried_again(inventory, standin):
    """A 422 to a DELETE is no refusal."""
    schedule_id = standin.add(TASK)
    standin.fail(Fault.database_error(), Fault.other_words())
    inventory.delete(inventory.get(schedule_id))
    assert standin.schedules == {}
    assert standin.deletions == {schedule_id: 3}


def test_a_deletion_in_other_words_is_none(inventory, standin):
    """A proxy's success proves nothing, and the error says so."""
    schedule = inventory.get(standin.add(TASK))
    standin.always(Fault.other_words())
    assert "answered 200, but not with a schedule" in failure(inventory.delete, schedule)


def test_a_wrong_key_is_told_as_such(standin):
    """By the real answer."""
    wrong = ScheduleInventory(standin.url, "tr_prod_other", CALL_SECONDS)
    assert "check TRIGGER_SECRET_KEY" in failure(listed, wrong)


def test_an_unreachable_server_is_told_as_such(standin):
    """Within the time that a request has."""
    standin.stop()
    inventory = ScheduleInventory(standin.url, KEY, CALL_SECONDS)
    try:
        assert "could not be reached (no connection); check" in failure(listed, inventory)
    finally:
        standin.start()


def test_the_task_identifier_is_a_setting():
    """Upstream's is the default."""
    assert make_config("sqlite:///x").trigger_task_identifier == "customer-prompt-task"
