"""Every fault of the call to Trigger.dev: the task goes with its schedule, or stays as it was.

Each case has a task of its own, and many are asked for at once, of one server; the tests
then look at what became of each.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from recoup.app import create_app
from recoup.database.connection import connect, execute, release
from recoup.database.migrations import upgrade
from recoup.deletion.outcomes import DeletionInDoubt
from recoup.demo.messages import Answer
from recoup.demo.standin import Fault, StandIn
from recoup.web.errors import FAILURES
from tests.conftest import close_database, make_config
from tests.factories import World
from tests.server import Server

DEADLINE_SECONDS = 2
# What a busy machine may add to the deadline; a wait without a bound would be longer.
MARGIN_SECONDS = 8
# As all of them together, a busy machine wouldn't get through within the deadline.
AT_ONCE = 24
# Longer than anybody waits.
FOREVER = 600

DELETED = (200, {"status": "success"})
KEPT = (
    500,
    {"status": "error", "error": "The schedule could not be cancelled; the task was kept."},
)
IN_DOUBT = (500, {"status": "error", "error": FAILURES[DeletionInDoubt]})
NOT_FOUND = (404, {"status": "error", "error": "Task not found"})


@dataclass(frozen=True)
class Case:
    """What the requests for one schedule meet: *always* every one, *once* the first alone.

    *answer* is what the caller gets; *attempts* how many calls are made, if that is certain;
    *gone* whether Trigger.dev has acted though the task is kept.
    """

    name: str
    answer: tuple[int, dict[str, str]]
    always: Fault | None = None
    once: Fault | None = None
    attempts: int | None = None
    gone: bool = False


@dataclass
class Outcome:
    """What became of a case: of the first request, and of two more once the fault was over."""

    answer: tuple[int, dict[str, str]]
    content_type: str
    seconds: float
    calls: int
    row_before: dict[str, Any]
    row: dict[str, Any] | None
    mark: dict[str, Any] | None
    schedules: list[str]
    log: dict[str, Any]
    again: list[tuple[int, dict[str, str]]]
    rest: list[Any]


def acted_but_said(status: int) -> Fault:
    """Act, and answer with another status and an empty body."""

    def play(exchange):
        exchange.answer()
        exchange.deliver(Answer(status, b""))

    return Fault(f"acted, {status}", play)


def hinted() -> Fault:
    """Act, and send an interim answer before the one that counts."""

    def play(exchange):
        exchange.deliver(Answer(103, b""))
        time.sleep(0.2)
        exchange.deliver(exchange.answer())

    return Fault("hinted", play)


def lost(name: str, fault: Fault, *, gone: bool = False) -> Case:
    """The case of an answer that never comes, whatever is tried."""
    return Case(name, IN_DOUBT, fault, gone=gone)


FINAL = [300, 301, 304, 308, 400, 401, 402, 403, 404, 405, 410, 413, 418, 451]
BUSY = [408, 409]
FAILING = [422, 500, 501, 502, 503, 504, 520, 599]
ELSEWHERE = "/somewhere/else"
NO_RESET = Fault.status(429, headers={"x-ratelimit-reset": "soon"})
TRY_AGAIN = Fault.status(400, headers={"x-should-retry": "true"})
GIVE_UP = Fault.status(500, headers={"x-should-retry": "false"})

CASES = [
    Case("no fault", DELETED, attempts=1),
    Case("slow", DELETED, Fault.delay(0.2), attempts=1),
    *(Case(f"{n} for ever", KEPT, Fault.status(n), attempts=1) for n in FINAL),
    *(Case(f"{n} for ever", KEPT, Fault.status(n)) for n in BUSY),
    *(lost(f"{n} for ever", Fault.status(n)) for n in FAILING),
    *(Case(f"{n} once", DELETED, once=Fault.status(n), attempts=2) for n in BUSY + FAILING),
    *(Case(f"{n} after acting once", DELETED, once=acted_but_said(n)) for n in (200, 202, 204)),
    *(lost(f"{n} after acting", acted_but_said(n), gone=True) for n in (200, 202, 204, 422)),
    *(lost(f"{n} without acting", Fault.status(n, b"")) for n in (200, 202, 204)),
    Case("interim answer", DELETED, hinted(), attempts=1),
    Case("500 not to be tried again", IN_DOUBT, GIVE_UP, attempts=1),
    Case("400 to be tried again", DELETED, once=TRY_AGAIN, attempts=2),
    Case("500 after acting once", DELETED, once=acted_but_said(500)),
    lost("hang before acting", Fault.hang(FOREVER)),
    lost("hang after acting", Fault.hang(FOREVER, act=True), gone=True),
    lost("acts after the caller gave up", Fault.delay(DEADLINE_SECONDS + MARGIN_SECONDS)),
    lost("reset before acting", Fault.reset()),
    lost("reset after acting", Fault.reset(act=True), gone=True),
    lost("close before acting", Fault.close()),
    lost("close after acting", Fault.close(act=True), gone=True),
    lost("drip before acting", Fault.drip(0.5)),
    lost("drip after acting", Fault.drip(0.5, act=True), gone=True),
    lost("drip of a failure's body", Fault.drip(0.5, where="body")),
    lost("500 after acting", acted_but_said(500), gone=True),
    lost("502 after acting", acted_but_said(502), gone=True),
    Case("hang before acting once", DELETED, once=Fault.hang(FOREVER)),
    Case("hang after acting once", DELETED, once=Fault.hang(FOREVER, act=True)),
    Case("reset before acting once", DELETED, once=Fault.reset(), attempts=2),
    Case("reset after acting once", DELETED, once=Fault.reset(act=True)),
    Case("close after acting once", DELETED, once=Fault.close(act=True)),
    Case("drip after acting once", DELETED, once=Fault.drip(0.5, act=True)),
    lost("half the body of a failure", Fault.half_body()),
    lost("half the body of a success", Fault.half_body(act=True), gone=True),
    Case("half the body of a success once", DELETED, once=Fault.half_body(act=True)),
    lost("drip of a success's body", Fault.drip(0.5, act=True, where="body"), gone=True),
    Case("redirect", KEPT, Fault.redirect(ELSEWHERE), attempts=1),
    lost("junk with 200", Fault.junk()),
    lost("junk with 200 after acting", Fault.junk(act=True), gone=True),
    Case("junk with 200 after acting once", DELETED, once=Fault.junk(act=True)),
    Case("junk with 404", KEPT, Fault.junk(404), attempts=1),
    lost("junk with 502", Fault.junk(502)),
    Case("rate limit with its reset near", DELETED, once=Fault.rate_limited(0.3), attempts=2),
    Case("rate limit with its reset far", KEPT, Fault.rate_limited(60), attempts=1),
    Case("rate limit that is reset in vain", KEPT, Fault.rate_limited(0.3)),
    Case("rate limit without a time", DELETED, once=NO_RESET, attempts=2),
]


class Site:
    """A running server, the stand-in that it calls, and the world in its database."""

    def __init__(self, server: Server, standin: StandIn, world: World) -> None:
        self.server = server
        self.standin = standin
        self.world = world
        self.account = world.account()
        self.key = world.key(self.account)

    def ask(self, task_id: str) -> tuple[float, Any]:
        """Ask for a task's deletion; return the seconds that it took and the response."""
        started = time.monotonic()
        response = self.server.delete(task_id, self.key, request_id=f"first-{task_id}")
        return time.monotonic() - started, response

    def ask_again(self, task_id: str) -> list[tuple[int, dict[str, str]]]:
        """Ask twice more; return the answers."""
        responses = [self.server.delete(task_id, self.key) for _ in range(2)]
        return [(response.status_code, response.json()) for response in responses]

    def rest(self, task_id: str) -> list[Any]:
        """Return what is left of a task: its row, its mark, its schedules."""
        left = [self.world.row(task_id), self.world.mark(task_id)]
        return [*filter(None, left), *self.world.schedule_ids(task_id)]

    def log(self, task_id: str) -> dict[str, Any]:
        """Return the log's line about the first request for a task."""
        lines = self.server.log_lines()
        lines = [line for line in lines if line["event"] == "request"]
        return next(line for line in lines if line["request_id"] == f"first-{task_id}")


@pytest.fixture(name="database_url", scope="module", params=["sqlite", "postgres"])
def _database_url(request, tmp_path_factory):
    """An upgraded database for the whole module, its tasks with a column that we don't know."""
    if request.param == "postgres":
        postgres = request.getfixturevalue("postgres")
        postgres.create_database("faults", template="template_ready")
        url = postgres.url("faults")
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('faults')}/recoup.sqlite3"
    connect(make_config(url))
    upgrade()
    execute("ALTER TABLE scheduled_actions ADD COLUMN of_the_host text DEFAULT 'not ours to lose'")
    close_database()
    yield url
    close_database()


@pytest.fixture(name="site", scope="module")
def _site(database_url):
    with StandIn() as standin:
        settings = {
            "TRIGGER_API_URL": standin.url,
            "TRIGGER_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        }
        world = World(create_app(make_config(database_url, **settings)), standin)
        with Server(database_url, **settings) as server:
            yield Site(server, standin, world)


@pytest.fixture(name="outcomes", scope="module")
def _outcomes(site):
    """All cases, many of them at once, and what became of each."""
    tasks = [site.world.task(site.account, model="some/model") for _ in CASES]
    rows = [site.world.row(task) for task in tasks]
    for case, task in zip(CASES, tasks, strict=True):
        if case.once:
            site.standin.fail(case.once, schedule_id=task)
        if case.always:
            site.standin.always(case.always, schedule_id=task)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        first = list(threads.map(site.ask, tasks))
        calls = site.standin.deletions
        after = [
            (site.world.row(task), site.world.mark(task), site.world.schedule_ids(task))
            for task in tasks
        ]
        site.standin.clear()
        again = list(threads.map(site.ask_again, tasks))
    release()
    outcomes = {}
    for n, (case, task) in enumerate(zip(CASES, tasks, strict=True)):
        seconds, response = first[n]
        outcomes[case.name] = Outcome(
            (response.status_code, response.json()),
            response.headers["Content-Type"],
            seconds,
            calls[task],
            rows[n],
            *after[n],
            site.log(task),
            again[n],
            site.rest(task),
        )
    return outcomes


def cases(*chosen):
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.name)


KEEPING = [case for case in CASES if case.answer in (KEPT, IN_DOUBT)]
DELETING = [case for case in CASES if case.answer == DELETED]


@cases(*CASES)
def test_the_answer_is_ours_to_the_last_word(outcomes, case):
    """The caller gets the contract's status and shape, and nothing of what Trigger.dev said."""
    assert outcomes[case.name].answer == case.answer
    assert outcomes[case.name].content_type == "application/json"


@cases(*CASES)
def test_the_answer_comes_within_the_deadline(outcomes, case):
    """No fault holds the caller much longer than the deadline."""
    assert outcomes[case.name].seconds < DEADLINE_SECONDS + MARGIN_SECONDS


@cases(*KEEPING)
def test_a_kept_task_is_what_it_was(outcomes, case):
    """Each column of the row is as before, the host's own included; only a doubt is marked."""
    outcome = outcomes[case.name]
    assert outcome.row == outcome.row_before
    assert outcome.row["of_the_host"] == "not ours to lose"
    assert bool(outcome.mark) is (case.answer == IN_DOUBT)
    assert not outcome.mark or outcome.mark["doubtful_since"]


@cases(*(case for case in KEEPING if not case.gone))
def test_a_kept_task_has_its_schedule(outcomes, case):
    """Where Trigger.dev did not act, the very schedule that the row names is alive."""
    outcome = outcomes[case.name]
    assert outcome.schedules == [outcome.row_before["trigger_schedule_id"]]


@cases(*(case for case in KEEPING if case.answer == IN_DOUBT))
def test_a_task_whose_answer_was_lost_is_called_in_doubt(outcomes, case):
    """Where Trigger.dev may have acted the log says so, and names the schedule."""
    outcome = outcomes[case.name]
    assert outcome.log["state"] == "in doubt"
    assert outcome.log["schedule"] == outcome.row_before["trigger_schedule_id"]
    assert bool(outcome.schedules) is not case.gone


@cases(*(case for case in KEEPING if case.answer == KEPT))
def test_a_task_kept_by_a_refusal_is_not_called_in_doubt(outcomes, case):
    """A clear answer leaves no doubt, and sends no operator looking."""
    assert outcomes[case.name].log["state"] == "kept"


@cases(*DELETING)
def test_a_deleted_task_has_left_nothing(outcomes, case):
    """A 200 means no row, no mark and no schedule."""
    outcome = outcomes[case.name]
    assert (outcome.row, outcome.mark, outcome.schedules) == (None, None, [])


@cases(*(case for case in CASES if case.attempts))
def test_trigger_dev_is_called_no_more_than_it_takes(outcomes, case):
    """What is settled is not asked again, and what may pass is."""
    assert outcomes[case.name].calls == case.attempts


@cases(*(case for case in KEEPING if not case.attempts))
def test_what_may_pass_is_tried_again_within_the_deadline(outcomes, case):
    """A fault that stays is met by a second attempt before the task is given up."""
    assert outcomes[case.name].calls > 1


@cases(*CASES)
def test_asking_again_converges(outcomes, case):
    """Once the fault is over, a kept task is deleted, and a deleted one is not found."""
    first = NOT_FOUND if case.answer == DELETED else DELETED
    assert outcomes[case.name].again == [first, NOT_FOUND]
    assert outcomes[case.name].rest == []


def test_a_redirect_is_not_followed(outcomes, site):
    """A redirect would take the secret key to wherever it points."""
    assert ELSEWHERE not in {request.path for request in site.standin.requests}


def test_a_refused_connection_keeps_the_task(outcomes, site):
    """While nobody listens the task stays as it was; afterwards it goes."""
    task = site.world.task(site.account)
    row = site.world.row(task)
    site.standin.stop()
    try:
        seconds, response = site.ask(task)
    finally:
        site.standin.start()
    assert (response.status_code, response.json()) == KEPT
    assert seconds < DEADLINE_SECONDS + MARGIN_SECONDS
    assert (site.world.row(task), site.world.mark(task)) == (row, None)
    assert site.world.schedule_ids(task) == [row["trigger_schedule_id"]]
    assert site.log(task)["state"] == "kept"
    assert site.ask_again(task) == [DELETED, NOT_FOUND]
    assert site.rest(task) == []


def test_no_worker_was_lost_and_nothing_unexpected_was_logged(outcomes, site):
    """No fault ends a worker, or shows as a traceback."""
    assert [line for line in site.server.log_lines() if "traceback" in line] == []
    assert "Traceback" not in site.server.stderr()
    assert site.server.stderr().count("Booting worker") == 2
