"""Drift between tasks and schedules: what it is, what only looks like it, and how it is mended."""

from contextlib import nullcontext
from types import SimpleNamespace
from uuid import uuid4

import pytest

from recoup.database.models import ScheduledAction
from recoup.demo.standin import Fault
from recoup.reconcile import drift as reconcile
from recoup.reconcile.drift import KINDS, Mismatch, Task, compare, find_drift
from recoup.reconcile.repair import delete_orphan, store_id
from recoup.trigger import inventory as inventory_module
from recoup.trigger.inventory import InventoryFailed, ScheduleInventory
from recoup.trigger.schedule import ScheduleSchema
from tests.trigger.test_inventory import ignore, meanwhile, undisturbed

IDENTIFIER = "customer-prompt-task"
A = "11111111-1111-4111-8111-111111111111"
B = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
NOTHING = {kind: [] for kind in KINDS}


@pytest.fixture(autouse=True)
def _unpaced(monkeypatch):
    monkeypatch.setattr(inventory_module, "SECONDS_BETWEEN_REQUESTS", 0)
    monkeypatch.setattr(reconcile, "PAUSE_SECONDS", 0)


@pytest.fixture
def inventory(standin):
    return ScheduleInventory(standin.url, standin.secret_key, 2.0)


@pytest.fixture
def drift(inventory, world):
    """Find the drift, which is returned without the kinds that there is none of."""

    def find():
        found, _ = find_drift(inventory, IDENTIFIER, lambda label: nullcontext(ignore))
        return {kind: [m[:2] for m in found[kind]] for kind in KINDS if found[kind]}

    return find


@pytest.fixture
def account(world):
    """An account with a task that is as it should be."""
    account = world.account()
    world.task(account)
    return account


def forget(world, task_id):
    """Take a task's row away, as a program that never cancels would."""
    ScheduledAction.delete().where(ScheduledAction.id == task_id).execute()


# What drift is: compare()


def schedule(schedule_id, external_id=A, key=A):
    return ScheduleSchema().load(
        {
            "id": f"sched_{schedule_id}",
            "task": IDENTIFIER,
            "generator": {"expression": "0 9 * * *"},
            "externalId": external_id,
            "deduplicationKey": key,
        }
    )


def task(schedule_id=None, *, task_id=A, enabled=True, marked=False):
    return Task(task_id, schedule_id and f"sched_{schedule_id}", enabled, marked)


@pytest.mark.parametrize(
    ("schedules", "tasks", "expected"),
    [
        ([schedule(1)], [task(1)], {}),
        ([], [], {}),
        # Orphans: nothing on either side points to the other.
        ([schedule(1)], [], {"orphans": [(1, A)]}),
        ([schedule(1, None, None)], [task(2)], {"orphans": [(1, None)], "dead_tasks": [(2, A)]}),
        ([schedule(1, "by hand", None)], [], {"orphans": [(1, "by hand")]}),
        ([schedule(1, None, None)], [task(1)], {}),
        ([schedule(1, None, A)], [task(1)], {}),
        ([schedule(1, B, None)], [task(1)], {}),
        ([schedule(1, B.upper(), None)], [task(1, task_id=B)], {}),
        ([schedule(1, None, None)], [task("1\n")], {}),
        ([schedule(1, None, "sched_9")], [task("9 \x85\u3000")], {}),
        # Dead tasks: enabled, and nothing fires them.
        ([], [task(1)], {"dead_tasks": [(1, A)]}),
        ([], [task()], {"dead_tasks": [(None, A)]}),
        ([], [task(1, enabled=False)], {}),
        # Lost ids: the schedule is there, and its row doesn't know.
        ([schedule(1)], [task()], {"lost_ids": [(1, A)]}),
        ([schedule(1)], [task(enabled=False)], {"lost_ids": [(1, A)]}),
        ([schedule(1, A, None)], [task()], {"lost_ids": [(1, A)]}),
        # Lost, too: what the row names is gone, and its task has another.
        ([schedule(2)], [task(1)], {"lost_ids": [(2, A, 1)]}),
        ([schedule(2, A, "another")], [task(1)], {"lost_ids": [(2, A, 1)]}),
        ([schedule(2)], [task("1\n")], {"lost_ids": [(2, A, "sched_1\n")]}),
        ([schedule(2, None, A)], [task(1, enabled=False)], {"lost_ids": [(2, A, 1)]}),
        ([schedule(1), schedule(2, A, None)], [task(9, marked=True)], {}),
        # A schedule that was made again is lost: the row has the id that it had before.
        (
            [schedule(2, None, "restored-sched_1")],
            [task(1)],
            {"lost_ids": [(2, A, 1)]},
        ),
        ([schedule(2, None, "restored-sched_1")], [task(1, marked=True)], {}),
        # While the one that it was made from is there, the row means that one.
        ([schedule(1, None, None), schedule(2, None, "restored-sched_1")], [task(1)], {}),
        ([schedule(2, None, "restored-sched_1"), schedule(1, None, None)], [task(1)], {}),
        # Not lost: the row names it by its key, or another row names it.
        ([schedule(1, A, "sched_9")], [task(9)], {}),
        ([schedule(1, None, "sched_9")], [task(9)], {}),
        ([schedule(2, A, B)], [task(1), task(2, task_id=B)], {}),
        ([schedule(2, A, B)], [task(), task(2, task_id=B)], {}),
        # Duplicates: all but the one that a deletion would cancel.
        ([schedule(1), schedule(2, A, None)], [task(1)], {"duplicates": [(2, A)]}),
        ([schedule(1), schedule(2, A, None)], [task(2)], {"duplicates": [(1, A)]}),
        (
            [schedule(1), schedule(2, A, None)],
            [task(9)],
            {"lost_ids": [(1, A, 9)], "duplicates": [(2, A)]},
        ),
        (
            [schedule(1, A, None), schedule(2, A, None)],
            [task(9)],
            {"duplicates": [(1, A), (2, A)]},
        ),
        (
            [schedule(1), schedule(2, A, None)],
            [task()],
            {"lost_ids": [(1, A)], "duplicates": [(2, A)]},
        ),
        (
            [schedule(1, A, None), schedule(2, A, None)],
            [task()],
            {"duplicates": [(1, A), (2, A)]},
        ),
        # One schedule that two tasks name is nobody's orphan, and neither of them is dead.
        ([schedule(1)], [task(1), task(1, task_id=B)], {}),
        # Whatever is being deleted is left to its deletion.
        ([], [task(1, marked=True)], {}),
        ([schedule(1)], [task(1, marked=True)], {}),
        ([schedule(1)], [task(marked=True)], {}),
        ([schedule(1), schedule(2, A, None)], [task(1, marked=True)], {}),
    ],
)
def test_what_is_drift_and_what_is_not(schedules, tasks, expected):
    """The four kinds, each with what comes close to it."""
    found = compare(schedules, {task.id: task for task in tasks})
    expected = {
        kind: [
            Mismatch(*(f"sched_{part}" if type(part) is int else part for part in entry))
            for entry in entries
        ]
        for kind, entries in expected.items()
    }
    assert found == NOTHING | expected


# On a database and Trigger.dev: find_drift()


def test_what_matches_is_no_drift(drift, account, world):
    """Enabled or not, being deleted or not, with its id stored or not to be."""
    world.task(account, enabled=False)
    world.task(account, enabled=False, schedule=False)
    for lease_seconds in (60, -60):
        world.place_mark(world.task(account), lease_seconds=lease_seconds)
        world.place_mark(world.task(account, schedule=False), lease_seconds=lease_seconds)
    assert drift() == {}


def test_each_kind_is_found(drift, account, world, standin):
    """All at once."""
    stray = str(uuid4())
    orphan = standin.add(stray)
    dead = world.task(account, schedule=False, trigger_schedule_id="sched_gone")
    never_scheduled = world.task(account, schedule=False)
    lost = world.task(account, schedule=False)
    kept = standin.add(lost)
    twice = world.task(account)
    second = standin.add(twice, deduplicationKey="another")
    found = drift()
    assert sorted(found.pop("dead_tasks"), key=str) == sorted(
        [("sched_gone", dead), (None, never_scheduled)], key=str
    )
    assert found == {
        "orphans": [(orphan, stray)],
        "lost_ids": [(kept, lost)],
        "duplicates": [(second, twice)],
    }


def test_an_id_is_lost_that_names_a_schedule_which_is_gone(drift, account, world, standin):
    """The task's next deletion would miss the schedule that it has, if its key is another."""
    stale = world.task(account, schedule=False, trigger_schedule_id="sched_gone")
    alive = standin.add(stale, deduplicationKey="another")
    assert drift() == {"lost_ids": [(alive, stale)]}
    assert [r.schedule_id for r in standin.requests].count("sched_gone") == 1


def test_an_id_is_not_lost_whose_schedule_only_the_list_lacks(drift, account, world, standin):
    """The list may lag; that the schedule is gone, only a look-up says."""
    task_id = world.task(account)
    named = world.row(task_id)["trigger_schedule_id"]
    standin.add(task_id, deduplicationKey="another")
    hidden = standin.schedules.pop(named)
    show = meanwhile(lambda: standin.schedules.update({named: hidden}))
    standin.fail(undisturbed(), show, method="GET")
    assert drift() == {}


def test_whether_an_id_is_lost_is_not_known_where_the_look_up_fails(drift, account, world, standin):
    """Nothing is stored over an id that may be good."""
    stale = world.task(account, schedule=False, trigger_schedule_id="sched_gone")
    standin.add(stale)
    standin.always(Fault.status(403), method="GET", schedule_id="sched_gone")
    with pytest.raises(InventoryFailed):
        drift()


def test_a_schedule_that_a_row_names_by_its_key_is_nobodys_orphan(drift, account, world, standin):
    """A deletion finds it by that, as Trigger.dev does."""
    standin.add("some-key", externalId=None)
    world.task(account, schedule=False, trigger_schedule_id="some-key")
    assert drift() == {}


def test_a_duplicate_is_found_whose_first_has_no_key(drift, account, world, standin):
    """The row alone says which of them is its own; both are looked up again."""
    twice = world.task(account)
    standin.schedules[world.row(twice)["trigger_schedule_id"]]["deduplicationKey"] = None
    second = standin.add(twice, deduplicationKey=None)
    assert drift() == {"duplicates": [(second, twice)]}


def test_other_tasks_schedules_are_none_of_our_business(drift, account, standin):
    """Neither are schedules that are declared in code."""
    standin.add(str(uuid4()), task="another-task")
    standin.add(str(uuid4()), type="DECLARATIVE")
    assert drift() == {}


def test_an_empty_list_proves_nothing(drift, account, standin):
    """It is empty while the environment has no deployment, though every schedule fires."""
    standin.deployed = False
    with pytest.raises(InventoryFailed, match="proves nothing"):
        drift()


def test_a_list_without_our_task_proves_nothing_either(drift, world, standin):
    """The identifier may be wrong."""
    standin.add(str(uuid4()), task="another-task")
    with pytest.raises(InventoryFailed, match="TRIGGER_TASK_IDENTIFIER"):
        drift()


def test_a_schedule_that_the_list_lacks_is_looked_up(drift, account, world, standin):
    """The list may lag; each of its tasks would be called dead."""
    named = world.task(account)
    keyed = world.task(account, schedule=False, trigger_schedule_id="sched_stale")
    hidden = {standin.add(keyed): None, world.row(named)["trigger_schedule_id"]: None}
    for schedule_id in hidden:
        hidden[schedule_id] = standin.schedules.pop(schedule_id)
    show = meanwhile(lambda: standin.schedules.update(hidden))
    standin.fail(undisturbed(), show, method="GET")
    assert drift() == {}


def test_a_task_made_meanwhile_is_not_dead(drift, account, world):
    """After the list was read, and before the tasks were."""
    world.standin.fail(meanwhile_listed(world, lambda: world.task(account)), method="GET")
    assert drift() == {}


def test_a_task_deleted_meanwhile_leaves_no_orphan(drift, account, world, standin):
    """Its schedule was listed, and its row wasn't there any more."""
    task_id = world.task(account)

    def delete():
        standin.schedules.pop(world.row(task_id)["trigger_schedule_id"])
        forget(world, task_id)

    standin.fail(meanwhile_listed(world, delete), method="GET")
    assert drift() == {}


def test_a_half_made_task_is_waited_for(drift, account, world, standin, monkeypatch):
    """Another program has made the row, and will have made the schedule after the pause."""
    made = world.task(account, schedule=False)
    half_deleted = world.task(account)
    schedule_id = world.row(half_deleted)["trigger_schedule_id"]
    forget(world, half_deleted)

    def other_halves(seconds):
        standin.add(made)
        del standin.schedules[schedule_id]
        ScheduledAction.update(trigger_schedule_id=next(iter(world.schedule_ids(made)))).where(
            ScheduledAction.id == made
        ).execute()

    monkeypatch.setattr(reconcile, "time", SimpleNamespace(sleep=other_halves))
    assert drift() == {}


def meanwhile_listed(world, action):
    """Let something happen right after the list was read."""

    def play(exchange):
        answer = exchange.answer()
        action()
        exchange.deliver(answer)

    return Fault("after the list", play)


def test_many_tasks_are_compared(drift, account, world, standin):
    """Five thousand, and the one that drifted among them."""
    rows = [
        {
            "id": (task_id := str(uuid4())),
            "title": "t",
            "prompt": "p",
            "schedule": "0 9 * * *",
            "account_id": account,
            "artist_account_id": account,
            "trigger_schedule_id": standin.add(task_id),
        }
        for _ in range(5000)
    ]
    for start in range(0, len(rows), 100):
        ScheduledAction.insert_many(rows[start : start + 100]).execute()
    stray = str(uuid4())
    orphan = standin.add(stray)
    assert drift() == {"orphans": [(orphan, stray)]}
    # A page holds a hundred; what is suspect is looked up by itself.
    assert len(standin.requests) == 51 + 1


# What is mended


@pytest.mark.parametrize("external_id", [A, A.upper(), "by hand", None])
def test_an_orphan_is_deleted(inventory, world, standin, external_id):
    """Whatever its external id is."""
    orphan = inventory.get(standin.add("some-key", externalId=external_id))
    assert delete_orphan(inventory, orphan)
    assert standin.schedules == {}


def test_a_schedule_that_a_task_has_by_now_is_kept(inventory, world, standin):
    """By its external id, by its key, or by the row's own word."""
    account = world.account()
    by_external, by_key = (world.task(account, schedule=False) for _ in range(2))
    named = standin.add("x", externalId=None)
    world.task(account, schedule=False, trigger_schedule_id=named)
    named_by_key = standin.add("some-key", externalId=None)
    world.task(account, schedule=False, trigger_schedule_id="some-key")
    named_as_before = standin.add("restored-sched_before", externalId=None)
    world.task(account, schedule=False, trigger_schedule_id="sched_before")
    ids = [
        standin.add("y", externalId=by_external.upper()),
        standin.add(by_key, externalId="something else"),
        named,
        named_by_key,
        named_as_before,
    ]
    assert [delete_orphan(inventory, inventory.get(id_)) for id_ in ids] == [False] * 5
    assert set(standin.schedules) == set(ids)
    assert not standin.deletions


@pytest.mark.parametrize("space", ["\n", " \t", "\x85", "\xa0", "\u3000"])
def test_white_space_around_what_a_row_names_is_ignored(drift, inventory, world, standin, space):
    """As the task's deletion does, which would cancel this schedule; to its key and to its id."""
    account = world.account()
    ids = [standin.add(key, externalId=None) for key in ("some_key", "x")]
    for name in ("some_key", ids[1]):
        world.task(account, schedule=False, trigger_schedule_id=f"{space}{name}{space}")
    assert drift() == {}
    assert [delete_orphan(inventory, inventory.get(id_)) for id_ in ids] == [False] * 2
    assert not standin.deletions


@pytest.mark.parametrize("name", ["somexkey", "some_key2", "SOME_KEY", "some"])
def test_a_row_that_names_something_like_it_has_no_schedule(inventory, world, standin, name):
    """Only the very same name counts."""
    world.task(world.account(), schedule=False, trigger_schedule_id=name)
    orphan = inventory.get(standin.add("some_key", externalId=None))
    assert delete_orphan(inventory, orphan)


@pytest.mark.parametrize("stored_id", [None, "sched_gone", "", " sched_gone\n"])
def test_a_lost_id_is_stored_and_nothing_else(world, stored_id):
    """The row stays what it was, to the last column."""
    task_id = world.task(world.account(), schedule=False, trigger_schedule_id=stored_id)
    before = world.row(task_id)
    assert store_id(Mismatch("sched_found", task_id, stored_id))
    assert world.row(task_id) == before | {"trigger_schedule_id": "sched_found"}


@pytest.mark.parametrize("stored_id", [None, "sched_gone"])
def test_an_id_is_stored_only_over_what_was_there(world, stored_id):
    """Not over a newer id, and not in a task that is being deleted or gone."""
    account = world.account()
    newer = world.task(account, schedule=False, trigger_schedule_id="sched_newer")
    emptied = world.task(account, schedule=False, trigger_schedule_id="")
    marked = world.task(account, schedule=False, trigger_schedule_id=stored_id)
    world.place_mark(marked, lease_seconds=60)
    before = [world.row(task_id) for task_id in (newer, emptied, marked)]
    for task_id in (newer, emptied, marked, A):
        assert not store_id(Mismatch("sched_found", task_id, stored_id))
    assert [world.row(task_id) for task_id in (newer, emptied, marked)] == before
