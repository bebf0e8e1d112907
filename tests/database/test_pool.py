"""The pool on a difficult Postgres: few connections, silence, read-only, a failover."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from recoup.app import create_app
from recoup.database import postgres as pools
from recoup.database import session, statements
from recoup.database.connection import (
    AnswerLost,
    DatabaseFailed,
    connect,
    database,
    execute,
    fetch,
    release,
)
from recoup.database.orphans import due_orphans, record_orphan
from recoup.database.readiness import find_problems
from tests.conftest import close_database, make_config
from tests.database.conftest import SECONDS, backend, in_thread, ours
from tests.factories import World, delete
from tests.postgres import PostgresServer, find_binaries
from tests.server import Server
from tests.sockets import Proxy, talker
from tests.waiting import wait_for

NEW_ACCOUNT = "INSERT INTO accounts (id, name) VALUES (?, ?)"
DELETIONS = 300
CLIENTS = 32
GRANTED = 4


@pytest.fixture(name="served")
def _served(standin):
    """Make an app on a database: a world for it, and a client."""

    def make(url, **settings):
        app = create_app(make_config(url, TRIGGER_API_URL=standin.url, **settings))
        return World(app, standin), app.test_client()

    return make


@pytest.fixture(name="limited_url")
def _limited_url(postgres, postgres_url):
    """The database as a role that is granted few connections."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE limited LOGIN BYPASSRLS CONNECTION LIMIT {GRANTED}")
        admin.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO limited")
        yield postgres_url.replace("postgres@", "limited@")
        close_database()
        admin.execute("DROP OWNED BY limited")
        admin.execute("DROP ROLE limited")


@pytest.fixture(name="proxy")
def _proxy(postgres):
    proxy = Proxy(postgres.port)
    yield proxy
    close_database()
    proxy.close()


@pytest.fixture(name="far_url")
def _far_url(proxy, postgres_url):
    """The database, through the proxy."""
    name = psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"]
    return f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"


@contextmanager
def read_only(url):
    """Let sessions that begin in this time be read-only, as they stay."""
    name = sql.Identifier(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
    setting = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(setting.format(name, "on"))
        yield
        admin.execute(setting.format(name, "off"))


def use_all(size):
    """Have the pool open all its connections, and give them back."""
    together = threading.Barrier(size)

    def use():
        fetch("SELECT 1")
        together.wait(SECONDS)
        release()

    with ThreadPoolExecutor(size) as threads:
        for future in [threads.submit(use) for _ in range(size)]:
            future.result(SECONDS)


def refusals():
    """Return how often the server has refused a connection."""
    return database.obj._pool.get_stats().get("connections_errors", 0)


# The host's settings


@pytest.mark.parametrize(
    "setting",
    [
        "datestyle = 'SQL, DMY'",
        "client_encoding = 'LATIN1'",
        "client_encoding = 'SQL_ASCII'",
        "intervalstyle = 'iso_8601'",
        "timezone = 'Asia/Kolkata'",
    ],
)
def test_settings_of_the_host_are_not_ours(postgres_url, served, setting):
    """What a session would have from its database changes no value that we read."""
    name = psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"]
    close_database()
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" SET {setting}')
        try:
            world, client = served(postgres_url)
            owner = world.account(email="日本@example.com")
            task, key = world.task(owner), world.key(owner)
            world.place_mark(task, lease_seconds=60)
            assert statements.account_of_email("日本@example.com") == owner
            assert 0 <= statements.count_marks()[1] < SECONDS
            record_orphan(str(uuid4()), -1)
            assert [0 <= one.age_seconds < SECONDS for one in due_orphans(10)] == [True]
            assert client.get("/metrics").status_code == 200
            execute("UPDATE task_deletions SET lease_expires_at = now()")
            assert delete(client, task, key).status_code == 200
        finally:
            close_database()
            admin.execute(f'ALTER DATABASE "{name}" RESET ALL')
            admin.execute("DELETE FROM orphaned_schedules")


# Few connections


@pytest.mark.alone
def test_deletions_wait_where_few_connections_are_granted(
    limited_url, postgres_url, served, standin
):
    """Two workers would open ten connections, and get four: all of 300 tasks are deleted."""
    world, _ = served(postgres_url)
    account = world.account()
    key = world.key(account)
    tasks = [world.task(account) for _ in range(DELETIONS)]
    with (
        Server(limited_url, TRIGGER_API_URL=standin.url) as server,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        answers = list(clients.map(lambda task: server.delete(task, key).status_code, tasks))
    assert answers == [200] * DELETIONS
    assert fetch("SELECT * FROM scheduled_actions") == fetch("SELECT * FROM task_deletions") == []
    assert standin.schedules == {}


def test_a_refused_connection_costs_those_nothing_that_there_are(limited_url):
    """The pool wants ten connections and gets four; other threads wait for one of these."""
    connect(make_config(limited_url, DATABASE_POOL_SIZE="10"))

    def work(_):
        fetch("SELECT pg_sleep(0.005)")
        release()

    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(work, range(DELETIONS)))


def test_a_pool_that_is_refused_one_more_makes_room_for_others(limited_url):
    """Another process gets a connection, though ours could use all of them."""
    connect(make_config(limited_url))
    enough = threading.Event()

    def work():
        while not enough.is_set():
            fetch("SELECT pg_sleep(0.002)")
            release()

    def other():
        with suppress(psycopg.OperationalError):
            return psycopg.connect(limited_url)

    with ThreadPoolExecutor(CLIENTS) as threads:
        working = [threads.submit(work) for _ in range(CLIENTS)]
        wait_for(refusals)
        try:
            wait_for(other).close()
        finally:
            enough.set()
        for future in working:
            future.result(SECONDS)


def test_a_full_server_is_waited_for(monkeypatch):
    """A connection that another program closes is used, without a new request."""
    monkeypatch.setattr(session, "REFUSED_SECONDS", 0.1)
    monkeypatch.setattr(pools, "REFUSED_SECONDS", 0.1)
    settings = {"max_connections": "4", "superuser_reserved_connections": "0"}
    with PostgresServer(find_binaries(), **settings) as server, ThreadPoolExecutor(1) as threads:
        url = server.url("postgres")
        others = [psycopg.connect(url) for _ in range(4)]
        connect(make_config(url))
        asked = threads.submit(in_thread, fetch, "SELECT 1")
        wait_for(lambda: refusals() > 4 or asked.done())
        others.pop().close()
        assert asked.result(SECONDS) == [(1,)]
        for other in others:
            other.close()
        close_database()


def test_a_server_that_stays_full_is_named_as_the_reason(short_waits, limited_url):
    """And not the pool, whose own connections would be free."""
    others = [psycopg.connect(limited_url) for _ in range(GRANTED)]
    connect(make_config(limited_url))
    with pytest.raises(DatabaseFailed, match="too many connections"):
        fetch("SELECT 1")
    for other in others:
        other.close()


def test_a_server_that_refuses_is_left_alone_for_a_moment(short_waits, monkeypatch):
    """However many threads want a connection."""
    monkeypatch.setattr(session, "REFUSED_SECONDS", SECONDS)
    monkeypatch.setattr(session.Session, "_refused_until", 0.0)  # and so afterwards
    attempts = []
    with talker(attempts.append) as (host, port), ThreadPoolExecutor(8) as threads:
        connect(make_config(f"postgresql://{host}:{port}/x?sslmode=disable&gssencmode=disable"))
        asked = [threads.submit(in_thread, fetch, "SELECT 1") for _ in range(8)]
        assert {type(future.exception(SECONDS)) for future in asked} == {DatabaseFailed}
        close_database()
    assert len(attempts) == 1


def test_who_waits_keeps_nobody_from_giving_back(pg, postgres_url):
    """A connection that is given back goes to the thread that waits for it."""
    connect(make_config(postgres_url, DATABASE_POOL_SIZE="1"))
    fetch("SELECT 1")
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(in_thread, fetch, "SELECT 1") for _ in range(4)]
        wait_for(lambda: database.obj._pool.get_stats()["requests_waiting"] == 4)
        release()
        assert [future.result(SECONDS) for future in waiting] == [[(1,)]] * 4


def test_nothing_is_opened_before_it_is_needed(pg, postgres_url):
    """Neither a connection nor a thread, which no fork would survive."""
    before = set(threading.enumerate())
    connect(make_config(postgres_url))
    assert ours(pg) == 0
    assert set(threading.enumerate()) <= before


def test_connections_that_are_not_needed_are_closed(pg, postgres_url, monkeypatch):
    """After a rush the server gets them back."""
    monkeypatch.setattr(pools, "MAX_IDLE_SECONDS", 0.2)
    connect(make_config(postgres_url))
    use_all(5)
    assert ours(pg) > 1
    wait_for(lambda: ours(pg) == 1)


def test_a_connection_that_is_old_is_replaced(pg, postgres_url, monkeypatch):
    """It may be with a server, or a role's settings, of long ago."""
    monkeypatch.setattr(pools, "MAX_LIFETIME_SECONDS", 0.2)
    connect(make_config(postgres_url))
    first = in_thread(backend)
    wait_for(lambda: in_thread(backend) != first)


# Silence


def test_a_deletion_succeeds_though_all_idle_connections_were_dropped(
    short_waits, proxy, far_url, served
):
    """Nothing told us so: the first statement waits in vain, and is run again on a new one."""
    world, client = served(far_url)
    account = world.account()
    key, task = world.key(account), world.task(account)
    use_all(3)
    proxy.silence()
    assert delete(client, task, key).status_code == 200
    assert (world.row(task), world.mark(task), world.schedule_ids(task)) == (None, None, [])


def test_a_statement_that_writes_is_never_sent_twice(short_waits, proxy, far_url):
    """It was carried out, though nobody heard so."""
    connect(make_config(far_url))
    use_all(1)
    proxy.silence()
    with pytest.raises(AnswerLost):
        execute(NEW_ACCOUNT, str(uuid4()), "n")
    assert fetch("SELECT count(*) FROM accounts") == [(1,)]


def test_a_connection_that_hangs_in_use_is_given_up(short_waits, proxy, far_url):
    """That statement fails, as it may depend on earlier ones; the next gets another connection."""
    connect(make_config(far_url))
    fetch("SELECT 1")
    proxy.silence()
    with pytest.raises(AnswerLost, match="did not answer in time"):
        fetch("SELECT 1")
    assert fetch("SELECT 1") == [(1,)]


def test_connections_that_hang_leave_the_pool(short_waits, proxy, far_url):
    """More of them than it has places."""
    connect(make_config(far_url, DATABASE_POOL_SIZE="1"))
    for _ in range(3):
        fetch("SELECT 1")
        proxy.silence()
        with pytest.raises(AnswerLost):
            fetch("SELECT 1")
        release()
    assert fetch("SELECT 1") == [(1,)]


# Read-only


def test_a_read_only_time_passes(postgres_url, served):
    """Deletions are refused in it; afterwards they succeed, though its sessions are read-only."""
    world, client = served(postgres_url)
    account = world.account()
    key, task = world.key(account), world.task(account)
    with read_only(postgres_url):
        database.close_all()
        use_all(3)
        assert delete(client, task, key).status_code == 500
        use_all(3)
    assert world.row(task)
    wait_for(lambda: delete(client, task, key).status_code == 200)
    assert (world.row(task), world.mark(task)) == (None, None)


def test_a_write_that_a_session_refuses_is_made_in_another(postgres_url):
    """And all sessions of its time are dropped."""
    connect(make_config(postgres_url))
    with read_only(postgres_url):
        use_all(5)
    assert execute(NEW_ACCOUNT, str(uuid4()), "n") == 1
    release()
    assert [in_thread(fetch, "SHOW transaction_read_only") for _ in range(8)] == [[("off",)]] * 8


def test_a_read_only_session_that_is_noticed_is_dropped(postgres_url):
    """Even if nothing is written any more, because deletions are refused."""
    connect(make_config(postgres_url))
    with read_only(postgres_url):
        use_all(5)
    assert find_problems() == ["The session is read-only."]
    release()
    assert [in_thread(find_problems) for _ in range(8)] == [[]] * 8


# A server that goes and comes


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_restart_is_waited_for(postgres, postgres_url, how):
    """A request that comes while the server is away is answered as soon as it is back."""
    connect(make_config(postgres_url))
    use_all(5)
    postgres.stop(how)
    try:
        with ThreadPoolExecutor(8) as threads:
            asked = [threads.submit(in_thread, fetch, "SELECT 1") for _ in range(8)]
            wait_for(refusals)
            postgres.start()
            assert [future.result(SECONDS) for future in asked] == [[(1,)]] * 8
    finally:
        postgres.start()


def test_a_failover_costs_no_deletion_that_begins_after_it(postgres, postgres_url, served):
    """All idle connections are cut, and none is noticed."""
    world, client = served(postgres_url)
    account = world.account()
    key, tasks = world.key(account), [world.task(account) for _ in range(8)]
    use_all(5)
    postgres.stop("immediate")
    postgres.start()
    assert [delete(client, task, key).status_code for task in tasks] == [200] * 8


def test_a_select_on_an_idle_session_that_is_shut_down_is_asked_again(pg):
    """The server may end it between the look at the connection and the statement."""
    pid = backend()
    release()
    assert fetch("SELECT pg_terminate_backend(?), pg_sleep(1)", pid)[0][0] is False
    assert backend() != pid


def test_a_long_outage_is_got_over(postgres, postgres_url, short_waits):
    """However many threads have waited in vain; they fail, and the pool forgets them."""
    connect(make_config(postgres_url, WEB_THREADS="2"))
    postgres.stop()
    try:
        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(in_thread, fetch, "SELECT 1") for _ in range(20)]
            assert {type(future.exception(SECONDS)) for future in asked} == {DatabaseFailed}
        assert database.obj._pool.get_stats()["requests_waiting"] <= 4  # each keeps its request
    finally:
        postgres.start()

    def serves():
        try:
            return in_thread(fetch, "SELECT 1")
        except DatabaseFailed:
            return None

    assert wait_for(serves) == [(1,)]
