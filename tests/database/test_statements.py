"""What the statements say, on both databases."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import peewee
import pytest

from recoup.database import queries, statements
from recoup.database.built import Statement
from recoup.database.connection import connect, fetch, is_postgres, release
from recoup.database.expressions import clock, clock_plus, instant, is_same
from recoup.database.models import (
    Account,
    AccountApiKey,
    AccountEmail,
    AccountOrganization,
    ScheduledAction,
    TaskDeletion,
)
from recoup.database.scope import may_act_for
from tests.conftest import close_database, make_config

HOUR = 3600


@pytest.fixture(autouse=True)
def _either(database_url):
    """The module's database on one and the other."""
    connect(make_config(database_url))
    yield
    release()


def make_account():
    return str(Account.create(name="n").id)


def make_task(account=None):
    """Make a task, of a new account unless told otherwise; return its id."""
    account = account or make_account()
    task = ScheduledAction.create(
        title="t", prompt="p", schedule="* * * * *", account_id=account, artist_account_id=account
    )
    return str(task.id)


def make_mark(lease_seconds, task=None):
    """Mark a task, a new one unless told otherwise; return its id."""
    task = task or make_task()
    assert statements.place_mark(task, str(uuid4()), None, lease_seconds)
    return task


def ask(*expressions):
    """Return what the database makes of expressions."""
    return Statement(lambda: peewee.Select(columns=expressions)).fetch()[0]


# A query that is built once


def test_values_go_where_the_query_has_them():
    """In the order of the query, as often as it has them, and beside its own."""
    statement = Statement(
        lambda one, two: ScheduledAction.select(ScheduledAction.id).where(
            ScheduledAction.prompt == two,
            ScheduledAction.title == one,
            ScheduledAction.model == "m",
            ScheduledAction.schedule == two,
        )
    )
    assert statement.bind("a", "b")[1] == ["b", "a", "m", "b"]
    assert statement.bind(None, "?")[1] == ["?", None, "m", "?"]


def test_a_query_is_built_once_for_each_number_of_values():
    """Building costs more than running."""
    calls = []

    def build(*names):
        calls.append(len(names))
        return Account.select(Account.name).where(Account.name.in_(names)).order_by(Account.name)

    for name in "abc":
        Account.create(name=name)
    statement = Statement(build)
    assert statement.fetch("a") == statement.fetch("a") == [("a",)]
    assert statement.fetch("c", "b") == [("b",), ("c",)]
    assert statement.fetch("b") == [("b",)]
    assert calls == [1, 2]


def test_a_query_is_built_for_the_database_in_use(sqlite_url, postgres_url):
    """One process may use both, one after the other."""
    for url in (sqlite_url, postgres_url, sqlite_url):
        connect(make_config(url))
        assert statements.find_standing(str(uuid4())) is None
        close_database()


def test_one_row_is_fetched_however_many_there_are():
    """Of keys with the same hash, and of entries with the same address."""
    account = make_account()
    for _ in range(5):
        AccountApiKey.create(name="n", account=account, key_hash="h")
        AccountEmail.create(account_id=account, email="e")
    assert len(queries.find_key.fetch("h")) == len(queries.account_of_email.fetch("e")) == 1


# Expressions


def test_the_clock_is_the_databases_and_goes_on():
    """It is an instant, and so is the instant some seconds later."""
    first = statements.read_clock()
    assert first.tzinfo
    assert abs(first - datetime.now(UTC)) < timedelta(seconds=60)
    while statements.read_clock() == first:
        pass
    assert statements.read_clock() > first
    assert [bool(value) for value in ask(clock() < clock_plus(5.5), clock() < clock_plus(-5))] == [
        True,
        False,
    ]


def test_an_instant_compares_whoever_wrote_it():
    """Also as text with an offset, on SQLite, where another program may have written that."""
    text = "2026-01-01T00:30:00+01:00"
    midnight, other = (
        peewee.Value(value).cast("timestamptz" if is_postgres() else "text")
        for value in ("2026-01-01T00:00:00.000Z", text)
    )
    assert bool(ask(instant(other) < instant(midnight))[0])
    assert not bool(ask(instant(other) > instant(midnight))[0])


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [("a", "a", True), ("a", "b", False), ("a", None, False), (None, "a", False)],
)
def test_two_values_are_the_same_or_not(left, right, same):
    """Null is told from a value."""
    values = (peewee.Value(value).cast("text") for value in (left, right))
    assert bool(ask(is_same(*values))[0]) is same


def test_null_is_the_same_as_null():
    """A task that has no schedule still has none."""
    assert bool(ask(is_same(peewee.Value(None).cast("text"), peewee.Value(None).cast("text")))[0])


def test_old_sqlite_knows_each_word():
    """It knows `IS NOT DISTINCT FROM` since 3.39, and would say so after the cancel."""
    sql, _ = queries.remove_task.bind("a", "b", "c")
    assert ("DISTINCT" in sql) is is_postgres()


# Who may act


def test_the_scope_rule_serves_another_query():
    """The tasks that somebody may delete, in one question."""
    me, colleague, stranger, admin = (make_account() for _ in range(4))
    team, admins = str(uuid4()), str(uuid4())
    for account, organization in [(me, team), (colleague, team), (admin, admins)]:
        AccountOrganization.create(account_id=account, organization_id=organization)
    tasks = {account: make_task(account) for account in (me, colleague, stranger)}
    statement = Statement(
        lambda caller, organization: ScheduledAction.select(ScheduledAction.id).where(
            may_act_for(ScheduledAction.account_id, caller, organization)
        )
    )

    def seen_by(account, organization):
        return {str(row[0]) for row in statement.fetch(account, organization)}

    for organization in (admins, None):
        assert seen_by(me, organization) == {tasks[me], tasks[colleague]}
        assert seen_by(stranger, organization) == {tasks[stranger]}
    assert seen_by(admin, admins) == {*tasks.values()}
    assert seen_by(admin, None) == set()
    for account, task in tasks.items():
        assert statements.find_task(task, me, None).allowed is (account != stranger)


# E-mail addresses


def add_email(email, account, day):
    AccountEmail.create(
        email=email, account_id=account, updated_at=datetime(2026, 1, day, tzinfo=UTC)
    )


def test_of_several_entries_of_an_address_the_oldest_counts():
    """Whatever the order in which they were written."""
    first, second, third = (make_account() for _ in range(3))
    add_email("a@example.com", second, day=2)
    add_email("a@example.com", first, day=1)
    add_email("a@example.com", third, day=3)
    assert statements.account_of_email("a@example.com") == first
    assert statements.account_of_email("unknown@example.com") is None


def test_an_address_of_no_account_is_nobodys():
    """The host's table has such rows, and rows without an address."""
    add_email("a@example.com", None, day=1)
    add_email(None, make_account(), day=1)
    assert statements.account_of_email("a@example.com") is None
    owner = make_account()
    add_email("a@example.com", owner, day=2)
    assert statements.account_of_email("a@example.com") == owner


# Tasks


def test_a_sample_has_the_schedules_of_other_enabled_tasks():
    """At most as many as were asked for; not those of tasks that are off or name none.

    On SQLite, where another program may have left `enabled` null, that is not off.
    """

    def name(schedule, **columns):
        task = make_task()
        row = ScheduledAction.update(trigger_schedule_id=schedule, **columns)
        row.where(ScheduledAction.id == task).execute()
        return task

    own = name("sched_own")
    name("sched_off", enabled=False), name(""), name(None)
    name("sched_a", enabled=True if is_postgres() else None), name(" sched_b\n"), name("sched_c")
    for _ in range(5):  # each begins somewhere else
        assert set(statements.sample_schedules(own, 3)) == {"sched_a", "sched_b", "sched_c"}
    assert len(statements.sample_schedules(own, 2)) == 2


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_the_guard_is_told_of_a_deletion_in_its_transaction_only():
    """Behind a pooler the next transaction of the session may be another program's."""
    task, token = make_task(), str(uuid4())
    assert statements.place_mark(task, token, None, 60)
    assert statements.remove_task(task, None, token)
    assert fetch("SELECT current_setting('recoup.deleting', true)") == [("",)]


# Marks


def test_the_longest_expired_mark_comes_first():
    """However they were placed; of more than the limit, the rest later."""
    marks = {seconds: make_mark(seconds) for seconds in (-20, -40, 60, -10, -30)}
    assert statements.expired_marks(10) == [marks[seconds] for seconds in (-40, -30, -20, -10)]
    assert statements.expired_marks(2) == [marks[-40], marks[-30]]


def take_over(task):
    """Try it; return whether that was said to be possible, listed, and done."""
    free = statements.mark_has_expired(task)
    listed = task in statements.expired_marks(10)
    done = statements.take_over_mark(task, str(uuid4()), 60)
    assert free is listed is done
    return done


def test_a_mark_is_free_when_its_lease_is_over():
    """Once; then it has a new lease."""
    standing, over = make_mark(60), make_mark(-1)
    assert not take_over(standing)
    assert take_over(over)
    assert not take_over(over)
    assert statements.mark_has_expired(make_task()) is None


@pytest.mark.parametrize("seconds", [HOUR + 23, 130])
def test_a_clock_that_was_set_back_keeps_no_mark(seconds):
    """A lease that ends later than any can was given before that, and is over.

    On Postgres another server may have taken over, whose clock is behind.
    """
    task = make_mark(seconds)
    assert take_over(task)
    assert not take_over(task)


@pytest.mark.parametrize(("seconds", "old"), [(HOUR, True), (130, True), (50, False)])
def test_a_clock_that_was_set_back_keeps_no_doubt(seconds, old):
    """A doubt from much later than now is looked at; nobody knows how old it is."""
    task = make_mark(-1)
    TaskDeletion.update(doubtful_since=clock_plus(seconds)).execute()
    assert statements.old_doubts(60, 10) == ([task] if old else [])
    assert statements.claim_doubt(task, task, 60, 60) is old


def test_the_longest_lease_is_not_over():
    """The longest deadline that can be set, and the margin."""
    assert not take_over(make_mark(60 + 15))


def test_a_request_that_takes_over_a_doubt_begins_anew():
    """By the age of the first one its mark would seem to stand for long, and page somebody."""
    task, token = make_task(), str(uuid4())
    assert statements.place_mark(task, token, None, 60)
    assert statements.turn_doubtful(task, token)
    TaskDeletion.update(requested_at=clock_plus(-HOUR)).execute()
    assert statements.take_over_doubt(task, str(uuid4()), 60)
    count, seconds = statements.count_marks()
    assert (count, seconds < 60) == (1, True)


def test_the_age_of_the_oldest_mark_is_never_negative():
    """Even where the clock was set back since it was placed."""
    assert statements.count_marks() == (0, 0.0)
    make_mark(60)
    TaskDeletion.update(requested_at=clock_plus(HOUR)).execute()
    assert statements.count_marks() == (1, 0.0)
    TaskDeletion.update(requested_at=clock_plus(-HOUR)).execute()
    make_mark(60)
    count, seconds = statements.count_marks()
    assert count == 2
    assert HOUR <= seconds < HOUR + 60
