"""Random histories, checked against a model after every step.

What may happen to a handful of tasks: requests, several at once too, with Trigger.dev failing in
every way that is quick; crashes, as the marks and half-done work they leave; leases that run
out; recoveries; and the host, which gives a row a new schedule or deletes it. The five promises
have to hold throughout.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from recoup.app import create_app
from recoup.database import guard
from recoup.database.connection import execute, fetch, is_postgres, release
from recoup.deletion.outcomes import DeletionRolledBack
from recoup.deletion.sweep import sweep
from recoup.demo.standin import Fault
from recoup.web.errors import FAILURES
from tests.factories import World, connections_in_use, delete
from tests.waiting import wait_for

FINAL = {"x-should-retry": "false"}
PAST = "2020-01-01T00:00:00.000Z"
# What Trigger.dev does to the next calls; the last fault of each is for good.
NEVER_ACTS = (
    [Fault.status(401)],
    [Fault.status(500, headers=FINAL)],
    [Fault.redirect("http://127.0.0.1:9/")],
    [Fault.rate_limited(3600)],
    [Fault.reset(), Fault.status(403)],
    [Fault.half_body(), Fault.status(422)],
)
RECOVERS = ([], [Fault.reset()], [Fault.close()], [Fault.status(503)], [Fault.rate_limited(0)])
ACTS = (
    [Fault.reset(act=True)],
    [Fault.close(act=True)],
    [Fault.half_body(act=True)],
    [Fault.junk(act=True)],
)
LOSES_THE_ANSWER = ([Fault.reset(act=True), Fault.status(401)], [Fault.status(502, headers=FINAL)])
ALL_FAULTS = NEVER_ACTS + RECOVERS + ACTS + LOSES_THE_ANSWER


class Histories(RuleBasedStateMachine):
    """One account's tasks.

    `crashed`: a process died over it, so it may go forward only.
    """

    tasks = Bundle("tasks")

    def __init__(self, client, world):
        super().__init__()
        self.client, self.world, self.standin = client, world, world.standin
        self.account = world.account()
        self.key = world.key(self.account)
        self.before, self.crashed = {}, set()

    @rule(target=tasks, kind=st.sampled_from(["normal", "lost id", "stale id"]))
    def create(self, kind):
        task = self.world.task(self.account)
        if kind != "normal":
            self.set_schedule(task, None if kind == "lost id" else "sched_stale")
        self.before[task] = self.world.row(task)
        return task

    @rule(task=tasks, faults=st.sampled_from(ALL_FAULTS))
    def request(self, task, faults):
        self.play(faults)
        self.check(task, delete(self.client, task, self.key), faults)

    @rule(task=tasks, faults=st.sampled_from(ALL_FAULTS), callers=st.integers(2, 4))
    def request_at_once(self, task, faults, callers):
        self.play(faults)
        with ThreadPoolExecutor(callers) as pool:
            answers = list(pool.map(self.request_alone, [task] * callers))
        assert sum(answer.status_code == 200 for answer in answers) <= 1
        for answer in answers:
            self.check(task, answer, faults)

    def request_alone(self, task):
        return delete(self.client.application.test_client(), task, self.key)

    @rule(task=tasks, cancelled=st.booleans(), lease_seconds=st.sampled_from([-1, -1, 60]))
    def crash(self, task, cancelled, lease_seconds):
        """A process dies between the mark and the end, with the cancel made or not."""
        if self.world.row(task) is None or self.world.mark(task):
            return
        self.world.place_mark(task, lease_seconds=lease_seconds)
        self.crashed.add(task)
        if cancelled:
            for schedule in self.world.schedule_ids(task):
                del self.standin.schedules[schedule]

    @rule()
    def let_leases_run_out(self):
        execute("UPDATE task_deletions SET lease_expires_at = ?", PAST)
        release()

    @rule()
    def let_doubts_age(self):
        execute(
            "UPDATE task_deletions SET doubtful_since = ?, lease_expires_at = ?"
            " WHERE doubtful_since IS NOT NULL",
            PAST,
            PAST,
        )
        release()

    @rule(faults=st.sampled_from(ALL_FAULTS))
    def recover(self, faults):
        self.play(faults)
        list(sweep(self.client.application.extensions["recoup"].deleter))

    @rule(task=tasks)
    def host_gives_a_new_schedule(self, task):
        if self.world.row(task) and not self.world.mark(task):
            for schedule in self.world.schedule_ids(task):
                del self.standin.schedules[schedule]
            self.set_schedule(task, self.standin.add(task))
            self.before[task] = self.world.row(task)

    @rule(task=consumes(tasks))
    def host_deletes_the_task(self, task):
        """As the host does it: the schedule and the row."""
        for schedule in self.world.schedule_ids(task):
            del self.standin.schedules[schedule]
        execute("DELETE FROM scheduled_actions WHERE id = ?", task)
        release()

    @rule(task=consumes(tasks))
    def somebody_deletes_the_row(self, task):
        """As a cascade does it; under a mark, too."""
        execute("DELETE FROM scheduled_actions WHERE id = ?", task)
        release()

    @rule()
    def let_orphans_be_due(self):
        execute("UPDATE orphaned_schedules SET due_at = ?", PAST)
        release()

    @invariant()
    def no_live_schedule_is_without_its_row(self):
        """But for one that waits to be collected."""
        waiting = {str(row[0]) for row in fetch("SELECT task_id FROM orphaned_schedules")}
        release()
        for schedule in list(self.standin.schedules.values()):
            task = schedule["externalId"]
            assert self.world.row(task) or task in waiting

    @invariant()
    def rows_are_as_they_were(self):
        for task, before in self.before.items():
            assert self.world.row(task) in (before, None)

    @invariant()
    def unmarked_rows_have_their_schedules(self):
        for task in self.before:
            if self.world.row(task) and not self.world.mark(task):
                assert self.world.schedule_ids(task)

    @invariant()
    def crashed_deletions_are_marked_until_they_are_complete(self):
        for task in self.crashed:
            assert self.world.row(task) is None or self.world.mark(task)

    @invariant()
    def nothing_is_held_open(self):
        # The pool takes a connection back in a thread of its own.
        wait_for(lambda: connections_in_use() == 0)

    def teardown(self):
        """In the end, with Trigger.dev well, every task goes, and leaves nothing."""
        self.standin.clear()
        self.let_leases_run_out()
        # A schedule that is there proves the key.
        self.before[self.create("normal")] = None
        for task in reversed(self.before):
            assert delete(self.client, task, self.key).status_code in (200, 404)
            assert self.world.row(task) is None
        self.let_orphans_be_due()
        list(sweep(self.client.application.extensions["recoup"].deleter))
        assert self.standin.schedules == {}
        for table in ("task_deletions", "orphaned_schedules"):
            rows = fetch(f"SELECT * FROM {table}")
            release()
            assert rows == []

    def play(self, faults):
        self.standin.clear()
        self.standin.fail(*faults)
        if faults in LOSES_THE_ANSWER or faults in NEVER_ACTS:
            self.standin.always(faults[-1])

    def check(self, task, answer, faults):
        """Hold one answer against the promises; what follows is seen by the invariants."""
        if answer.status_code == 200:
            assert faults not in NEVER_ACTS
            assert (self.world.row(task), self.world.mark(task)) == (None, None)
            assert self.world.schedule_ids(task) == []
        elif answer.status_code == 404:
            assert self.world.row(task) is None
        else:
            assert answer.status_code == 500
            told = [kind for kind, text in FAILURES.items() if text == answer.json["error"]]
            assert (told == [DeletionRolledBack]) <= (self.world.mark(task) is None)

    def set_schedule(self, task, schedule):
        execute("UPDATE scheduled_actions SET trigger_schedule_id = ? WHERE id = ?", schedule, task)
        release()


@pytest.mark.timeout(300)
def test_promises_hold_in_random_histories(config, standin):
    """Whatever happens in whatever order, the five promises hold after each step."""
    app = create_app(replace(config, trigger_deadline_seconds=1))
    if is_postgres():
        guard.turn_on()
        release()
    run_state_machine_as_test(
        lambda: Histories(app.test_client(), World(app, standin)),
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
