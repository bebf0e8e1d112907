"""A rehearsal shows what it saw, fails if that differs, and leaves nothing at Trigger.dev.

The other side is the stand-in on a real socket.
"""

import json
import re
from datetime import UTC, datetime

import pytest

from recoup.demo.messages import json_answer
from recoup.demo.standin import Fault, StandIn
from recoup.trigger import rehearsal as module
from recoup.trigger.rehearsal import Rehearsal

CALL_SECONDS = 0.5
TASK = "customer-prompt-task"
NOT_FOUND = b'{"error": "Schedule not found"}'
# How often a rehearsal uses each method.
REQUESTS = {"POST": 4, "GET": 8, "DELETE": 4}


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(module, "SETTLING_SECONDS", 0)
    monkeypatch.setattr(module, "CLEAR_SECONDS", 5.0)


@pytest.fixture
def rehearse(standin):
    """Rehearse; return whether all went well, and what was told."""

    def run(key=standin.secret_key, task=TASK, **options):
        told = []
        rehearsal = Rehearsal(
            standin.url,
            key,
            task=task,
            call_seconds=CALL_SECONDS,
            tell=lambda verdict, text: told.append((verdict, text)),
            **options,
        )
        return rehearsal.run(), told

    return run


def failures(told):
    return [text for verdict, text in told if verdict == "failed"]


def fail_at(standin, method, position, fault):
    """Let the request of a method at a position meet a fault."""
    undisturbed = Fault("undisturbed", lambda exchange: exchange.deliver(exchange.answer()))
    standin.fail(*[undisturbed] * position, fault, method=method)


def test_a_server_that_is_as_relied_on_passes(rehearse, standin):
    """A line for each request, and nothing is left."""
    other = standin.add("somebody's")
    went_well, told = rehearse()
    assert went_well
    assert list(standin.schedules) == [other]
    assert {verdict for verdict, _ in told} == {"ok"}
    texts = [
        re.sub(r"sched_\w+", "ID", re.sub("recoup-rehearsal-[0-9a-f-]{36}", "KEY", text))
        for _, text in told
    ]
    one, gone = "200 ID", "404 Schedule not found"
    looks = "look it up by its key: {0}", "look it up by its id: {0}"
    assert texts == [
        line.format(saw)
        for name in ("key", "id")
        for line, saw in [
            ("make KEY: {0}", one),
            ("switch it off: {0}", one),
            *[(look, one) for look in looks],
            (f"cancel it by its {name}: {{0}}", one),
            (f"cancel it by its {name} again: {{0}}", gone),
            *[(look, gone) for look in looks],
        ]
    ]
    assert len(texts) == len(standin.requests) == sum(REQUESTS.values())


def test_what_is_made_is_far_from_firing_and_off_at_once(rehearse, standin):
    """Its key is its own, and so is its external id: no task's."""
    rehearse()
    make, switch, *_ = standin.requests
    body = json.loads(make.body)
    minute, hour, day, month, weekday = body["cron"].split()
    assert (minute, hour, day, weekday) == ("0", "0", "1", "*")
    assert (int(month) - datetime.now(UTC).month) % 12 in (5, 6, 7)
    assert body["task"] == TASK
    assert body["externalId"] == body["deduplicationKey"]
    assert body["deduplicationKey"].startswith("recoup-rehearsal-")
    assert switch.path.endswith("/deactivate")


FAULTS = [
    Fault.status(500),
    Fault.status(403),
    Fault.database_error(),
    Fault.database_error(act=True),
    Fault.junk(),
    Fault.junk(act=True),
    Fault.other_words(),
    Fault.reset(),
    Fault.reset(act=True),
    Fault.close(act=True),
    Fault.half_body(act=True),
    Fault.hang(CALL_SECONDS * 2, act=True),
    Fault.rate_limited(0.1),
]
STEPS = [(method, n) for method, count in REQUESTS.items() for n in range(count)]


@pytest.mark.parametrize(("method", "position"), STEPS, ids=str)
def test_a_fault_at_any_step_is_told_and_nothing_is_left(rehearse, standin, method, position):
    """Whatever it is, and whether the server acted or not."""
    for fault in FAULTS:
        standin.requests.clear()
        fail_at(standin, method, position, fault)
        went_well, told = rehearse()
        assert (went_well, len(failures(told))) == (False, 1), fault
        assert standin.schedules == {}, fault
        standin.clear()


def lie(**fields):
    """Do nothing, and answer 200 with a schedule."""
    return Fault.status(200, json_answer(200, fields).body)


@pytest.mark.parametrize(
    ("method", "position", "fault", "text"),
    [
        ("GET", 0, lie(id="sched_x"), "look it up by its key: 200 sched_x; relied on is 200 with"),
        ("GET", 2, lie(id="sched_x"), "look it up by its key: 200 sched_x; relied on is 404"),
        ("DELETE", 0, lie(id="sched_x"), "cancel it by its key: 200 sched_x; relied on is 200 wi"),
        ("DELETE", 0, Fault.status(404, NOT_FOUND), "cancel it by its key: 404 Schedule not found"),
        ("DELETE", 1, Fault.status(404, b"{}"), "again: 404 in other words; relied on is 404"),
        ("DELETE", 3, lie(id="sched_x"), "cancel it by its id again: 200 sched_x; relied on is"),
        ("POST", 1, lie(id="sched_x"), "switch it off: 200 sched_x; relied on is 200 with"),
    ],
)
def test_an_answer_that_is_not_relied_on_is_told(rehearse, standin, method, position, fault, text):
    """With what it is, and what it should have been; then nothing more is tried."""
    fail_at(standin, method, position, fault)
    went_well, told = rehearse()
    assert not went_well
    [failure] = failures(told)
    assert text in failure
    assert told[-2:] == [("failed", failure), ("note", "nothing is left")]
    assert standin.schedules == {}


def test_the_schedule_of_another_is_never_deleted(rehearse, standin):
    """Though an answer that is another's names it."""
    other = standin.add("somebody's")
    standin.fail(lie(id=other), method="POST")
    went_well, _ = rehearse()
    assert not went_well
    assert list(standin.schedules) == [other]
    assert standin.deletions[other] == 0


def test_a_plan_without_room_is_told_in_its_words(rehearse, standin):
    """Nothing was made; that is seen, and not waited for."""
    said = "You have created 10/10 schedules"
    standin.always(Fault.status(422, json_answer(422, {"error": said}).body), method="POST")
    went_well, told = rehearse()
    assert not went_well
    assert told[0][1].endswith(
        f": 422 {said}; relied on is 200 with {told[0][1].split(' with ')[1]}"
    )
    assert told[1:] == [("note", "nothing is left")]


def test_a_task_that_is_not_deployed_is_told(rehearse):
    """TRIGGER_TASK_IDENTIFIER is wrong."""
    _, told = rehearse(task="no-such-task")
    assert ": 422 Task with identifier no-such-task not found in project; " in told[0][1]


def test_a_wrong_key_makes_nothing(rehearse, standin):
    """There is nothing to clear up, and nothing to clear it with."""
    went_well, [(verdict, text)] = rehearse(key="tr_prod_wrong")
    assert (went_well, verdict) == (False, "failed")
    assert ": 401 Invalid or Missing API Key; relied on is 200 with " in text
    assert len(standin.requests) == 1


def test_a_server_that_is_not_there_was_sent_nothing(rehearse, standin):
    """So nothing can be left."""
    standin.stop()
    went_well, [(verdict, text)] = rehearse()
    standin.start()
    assert (went_well, verdict) == (False, "failed")
    assert text.endswith(": no connection")


def test_one_that_is_made_late_is_deleted_too(rehearse, standin, monkeypatch):
    """The server acts on a request whose caller has gone."""
    monkeypatch.setattr(module, "SETTLING_SECONDS", 2)
    standin.fail(Fault.delay(CALL_SECONDS * 2), method="POST")
    went_well, told = rehearse()
    assert not went_well
    assert [verdict for verdict, _ in told] == ["failed", "note", "note"]
    assert told[1][1] == "it may still be made, so look again in 2 s"
    assert standin.schedules == {}
    [key] = standin.deletions
    assert standin.deletions[key] == 3


def test_what_can_not_be_deleted_is_named(rehearse, standin, monkeypatch):
    """For a person to delete it."""
    monkeypatch.setattr(module, "CLEAR_SECONDS", 0.5)
    standin.always(Fault.reset())
    went_well, told = rehearse()
    assert not went_well
    [schedule] = standin.schedules.values()
    text = f"{schedule['deduplicationKey']} may be left: delete it in the dashboard"
    assert told[-1] == ("failed", text)
    assert schedule["active"] is False


def test_one_whose_key_finds_nothing_is_deleted_by_its_id(rehearse, standin):
    """Cleared by every name that it has."""
    fail_at(standin, "GET", 0, Fault.status(500))
    standin.fail(Fault.status(404, NOT_FOUND))
    went_well, _ = rehearse()
    assert not went_well
    assert standin.schedules == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whatever_ends_it_nothing_is_left(rehearse, standin, monkeypatch, error):
    """Ctrl-C, or a mistake of ours."""
    see = Rehearsal._see

    def break_off(self, step, *args):
        if step.startswith("cancel"):
            raise error
        see(self, step, *args)

    monkeypatch.setattr(Rehearsal, "_see", break_off)
    with pytest.raises(error):
        rehearse()
    assert standin.requests
    assert standin.schedules == {}


def test_with_a_key_of_preview_the_branch_is_named(monkeypatch):
    """On each request."""
    with StandIn("tr_preview_standin") as standin:
        told = []
        rehearsal = Rehearsal(
            standin.url,
            standin.secret_key,
            branch="feature",
            task=TASK,
            call_seconds=CALL_SECONDS,
            tell=lambda *line: told.append(line),
        )
        assert rehearsal.run(), told
        assert {r.headers["x-trigger-branch"] for r in standin.requests} == {"feature"}
