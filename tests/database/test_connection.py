"""The pool and its waits: a failure comes in time, and disturbs nobody else."""

import gc
import os
import signal
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import uuid4

import psycopg
import pytest

from recoup.database import statements
from recoup.database.connection import (
    AnswerLost,
    ConstraintFailed,
    DatabaseFailed,
    connect,
    database,
    execute,
    fetch,
    release,
)
from recoup.database.migrations import upgrade
from recoup.database.models import Account
from tests.conftest import close_database, make_config
from tests.database.conftest import SECONDS, backend, in_thread, kill, ours
from tests.waiting import wait_for

NEW_ACCOUNT = "INSERT INTO accounts (id, name) VALUES (?, ?)"


@pytest.fixture
def either(database_url):
    """The module's database on one and the other; its URL."""
    connect(make_config(database_url))
    return database_url


@pytest.fixture
def sqlite(sqlite_url):
    """The module's database on SQLite; a connection of somebody else's to it."""
    connect(make_config(sqlite_url))
    somebody = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    yield somebody
    somebody.close()


# Statements


def test_a_statement_returns_rows_and_how_many_it_touched(either):
    """Both for what reads and for what writes."""
    ids = [str(uuid4()), str(uuid4())]
    assert [execute(NEW_ACCOUNT, one, "n") for one in ids] == [1, 1]
    rows = fetch("SELECT id, name FROM accounts ORDER BY name")
    assert sorted((str(one), name) for one, name in rows) == sorted((one, "n") for one in ids)
    assert execute("UPDATE accounts SET name = ?", "m") == 2
    assert execute("DELETE FROM accounts WHERE name = ?", "x") == 0


def test_a_statement_is_committed_at_once(either):
    """Another connection sees it while this one is still held."""
    execute(NEW_ACCOUNT, str(uuid4()), "n")
    assert in_thread(fetch, "SELECT name FROM accounts") == [("n",)]


@pytest.mark.parametrize("task", ["unknown", "taken"])
def test_a_constraint_is_told_from_other_failures(either, task):
    """A missing parent, or a key that is there; and the next statement works."""
    account, task_id = str(uuid4()), str(uuid4())
    execute(NEW_ACCOUNT, account, "n")
    with pytest.raises(ConstraintFailed):
        statements.place_mark(task_id, account, None, 1) if task == "unknown" else execute(
            NEW_ACCOUNT, account, "n"
        )
    assert fetch("SELECT name FROM accounts") == [("n",)]


@pytest.mark.parametrize("sql", ["SELEKT 1", "SELECT * FROM no_such_table"])
def test_a_statement_that_is_wrong_fails_by_itself(either, sql):
    """As `DatabaseFailed` with its cause, and the next one works."""
    with pytest.raises(DatabaseFailed) as caught:
        execute(sql)
    assert caught.value.__cause__
    assert type(caught.value) is DatabaseFailed
    assert fetch("SELECT 1") == [(1,)]


def test_release_gives_the_connection_back(either):
    """To the next thread; releasing again, or nothing, does no harm."""
    release()
    fetch("SELECT 1")
    connection = database.connection()
    release()
    release()
    assert database.is_closed()
    assert in_thread(lambda: fetch("SELECT 1") and database.connection()) is connection


# Connections of Postgres


def test_a_connection_that_died_in_the_pool_is_replaced_unseen(pg):
    """A server or a pooler ends idle connections as it likes."""
    pid = backend()
    release()
    kill(pg, pid)
    assert backend() != pid
    gc.collect()  # a connection that was not closed properly would warn now


def test_all_connections_of_a_server_that_restarted_are_replaced_unseen(postgres, postgres_url):
    """No request fails for it once the server is back."""
    connect(make_config(postgres_url))
    fetch("SELECT 1")
    in_thread(fetch, "SELECT 1")
    release()
    postgres.stop()
    postgres.start()
    assert [in_thread(fetch, "SELECT 1") for _ in range(3)] == [[(1,)]] * 3


def test_a_connection_that_dies_in_use_fails_one_statement(pg, postgres_url):
    """Its own; the next one, even of the same thread, gets a new connection."""
    connect(make_config(postgres_url, DATABASE_POOL_SIZE="1"))
    pid = backend()
    kill(pg, pid)
    with pytest.raises(DatabaseFailed):
        fetch("SELECT 1")
    assert backend() != pid
    release()
    assert ours(pg) == 1


def test_connections_that_die_in_use_leave_the_pool(pg):
    """More of them than it has places."""
    for _ in range(5):
        kill(pg, backend())
        with pytest.raises(DatabaseFailed):
            fetch("SELECT 1")
        release()
    assert fetch("SELECT 1") == [(1,)]


def test_there_are_never_more_connections_than_the_pool_has(pg):
    """However many threads want one."""

    def work():
        fetch("SELECT pg_sleep(0.02)")
        seen = ours_from_inside()
        release()
        return seen

    def ours_from_inside():
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'recoup'"
        return fetch(query + " AND datname = current_database()")[0][0]

    with ThreadPoolExecutor(8) as threads:
        assert (
            max(future.result(SECONDS) for future in [threads.submit(work) for _ in range(12)]) <= 2
        )


def test_a_thread_that_gets_no_connection_fails(short_waits, pg):
    """After its wait, as any failure of the database; and works once one is free."""
    enough, holding = threading.Event(), threading.Barrier(3)

    def hold():
        fetch("SELECT 1")
        holding.wait(SECONDS)
        enough.wait(SECONDS)
        release()

    with ThreadPoolExecutor(2) as threads:
        held = [threads.submit(hold) for _ in range(2)]
        holding.wait(SECONDS)
        with pytest.raises(DatabaseFailed, match="Max connections exceeded") as caught:
            fetch("SELECT 1")
        assert type(caught.value) is DatabaseFailed
        enough.set()
        for future in held:
            future.result(SECONDS)
    assert fetch("SELECT 1") == [(1,)]


def test_no_statement_is_prepared(pg, postgres_url):
    """Where that is turned off, as a pooler in transaction mode can't hold one for us."""
    connect(make_config(postgres_url, DATABASE_PREPARE="off"))
    for _ in range(20):
        fetch("SELECT id FROM accounts WHERE id = ?", str(uuid4()))
        Account.get_or_none(Account.id == uuid4())
    assert fetch("SELECT * FROM pg_prepared_statements") == []


def test_passwords_with_encoded_characters_are_decoded(postgres):
    """As libpq does it, so that what works in psql works here."""
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as admin:
        admin.execute("CREATE ROLE \"pool@er\" LOGIN PASSWORD 'p@ss'")
    address = postgres.tcp_url("template_ready").partition("@")[2]
    connect(make_config(f"postgres://pool%40er:p%40ss@{address}"))
    assert fetch("SELECT current_user") == [("pool@er",)]
    assert database.connection().info.password == "p@ss"
    close_database()
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as admin:
        admin.execute('DROP ROLE "pool@er"')


# Waits on Postgres


def test_a_server_that_crashes_may_have_carried_out_the_statement(postgres, pg):
    """Nobody can tell, and the error says so."""
    fetch("SELECT 1")
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(fetch, "SELECT pg_sleep(600)")
        wait_for(lambda: ours(pg, "state = 'active'"))
        postgres.stop("immediate")
        try:
            assert isinstance(asked.exception(SECONDS), AnswerLost)
        finally:
            postgres.start()


@pytest.mark.parametrize(
    ("code", "lost"), [("08006", True), ("40003", True), ("40001", False), ("P0001", False)]
)
def test_the_code_of_an_error_says_whether_a_statement_may_have_been_carried_out(pg, code, lost):
    """A lost connection or an unknown end, as a pooler may report it; all else is a refusal."""
    with pytest.raises(DatabaseFailed) as caught:
        execute(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$")
    assert isinstance(caught.value, AnswerLost) is lost


@pytest.mark.parametrize("statement", ["SELECT * FROM accounts", "SELECT pg_sleep(600)"])
def test_a_statement_that_hangs_ends_in_time(short_waits, pg, postgres_url, statement):
    """Here and at the server, where it would else wait for the lock for ever."""
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE accounts")
        with pytest.raises(AnswerLost, match="did not answer in time"):
            execute(statement)
        wait_for(lambda: ours(pg, "state = 'active'") == 0)
    assert fetch("SELECT name FROM accounts") == []


def test_a_server_that_is_frozen_is_given_up(short_waits, pg):
    """It can neither answer nor hear that we no longer wait; another connection serves."""
    pid = backend()
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(AnswerLost, match="did not answer in time"):
            fetch("SELECT 1")
        assert backend() != pid
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_statement_that_ends_in_time_is_let_be(pg):
    """Waiting alone is no failure."""
    assert len(fetch("SELECT pg_sleep(0.3)")) == 1


# Connecting to Postgres


@pytest.fixture
def port():
    """A port that refuses connections, and that nobody else is given."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
    close_database()


@pytest.fixture
def silent_server():
    """A socket that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        server.setblocking(False)
        yield server
    close_database()


def connect_to(port):
    connect(make_config(f"postgresql://user:hidden@127.0.0.1:{port}/x"))


def count_waiting(server):
    """Return how many connections a server has not looked at yet."""
    accepted = []
    try:
        while True:
            accepted.append(server.accept()[0])
    except BlockingIOError:
        return len(accepted)
    finally:
        for one in accepted:
            one.close()


@pytest.mark.usefixtures("short_waits")
def test_a_refused_connection_fails(port):
    """With the reason, and without the password, in all that a log could show."""
    connect_to(port)
    with pytest.raises(DatabaseFailed, match="refused") as caught:
        fetch("SELECT 1")
    error = caught.value
    assert type(error) is DatabaseFailed
    while error:
        assert "hidden" not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.usefixtures("short_waits")
def test_an_unknown_database_fails_without_the_password(postgres):
    """The server's reason is told, and neither the database's name."""
    address = postgres.tcp_url("no_such").partition("@")[2]
    connect(make_config(f"postgresql://postgres:hidden@{address}"))
    with pytest.raises(DatabaseFailed, match="it has no database with the name") as caught:
        fetch("SELECT 1")
    assert "hidden" not in str(caught.value)
    assert "no_such" not in str(caught.value)
    close_database()


def test_threads_that_wait_for_a_silent_server_fail_together(short_waits, silent_server):
    """Not one after the other, each with a wait of its own."""
    connect_to(silent_server.getsockname()[1])

    def fail():
        with pytest.raises(DatabaseFailed):
            fetch("SELECT 1")

    with ThreadPoolExecutor(20) as threads:
        for future in [threads.submit(fail) for _ in range(20)]:
            future.result(SECONDS)
    assert count_waiting(silent_server) == 1


@pytest.mark.usefixtures("short_waits")
def test_a_database_that_comes_back_serves_again(postgres, postgres_url):
    """By itself, once the pause is over."""
    connect(make_config(postgres_url))
    fetch("SELECT 1")
    postgres.stop()
    try:
        for _ in range(2):
            with pytest.raises(DatabaseFailed):
                fetch("SELECT 1")
            release()
    finally:
        postgres.start()

    def serves():
        with suppress(DatabaseFailed):
            return fetch("SELECT 1") == [(1,)]

    assert wait_for(serves)


# SQLite


def test_each_sqlite_connection_is_set_up(sqlite):
    """Cascades work, readers don't wait for writers, and a mark outlives a power cut."""

    def pragmas():
        names = ("foreign_keys", "journal_mode", "synchronous", "busy_timeout")
        return [fetch(f"PRAGMA {name}")[0][0] for name in names]

    assert pragmas() == in_thread(pragmas) == [1, "wal", 2, 0]


def test_a_locked_sqlite_file_fails_in_time(short_waits, sqlite):
    """For writers; readers are not held up."""
    sqlite.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseFailed, match="locked"):
        execute(NEW_ACCOUNT, str(uuid4()), "n")
    assert fetch("SELECT * FROM accounts") == []
    with pytest.raises(DatabaseFailed, match="locked"):
        statements.remove_task(str(uuid4()), None, str(uuid4()))
    assert database.is_closed()
    sqlite.execute("ROLLBACK")
    assert execute(NEW_ACCOUNT, str(uuid4()), "n") == 1


def test_a_write_waits_for_another_to_end(sqlite):
    """For as long as it may."""
    sqlite.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as threads:
        written = threads.submit(in_thread, execute, NEW_ACCOUNT, str(uuid4()), "n")
        time.sleep(0.2)
        assert not written.done()
        sqlite.execute("COMMIT")
        assert written.result(SECONDS) == 1


def test_threads_may_write_to_sqlite_at_once(sqlite):
    """They take turns, and none fails."""

    def write(number):
        return in_thread(execute, NEW_ACCOUNT, str(uuid4()), str(number))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(write, range(24))) == [1] * 24
    assert fetch("SELECT count(*) FROM accounts") == [(24,)]


def test_the_folder_of_a_sqlite_file_is_made(tmp_path):
    """Only by the upgrade: a fresh checkout doesn't have the default folder."""
    connect(make_config(f"sqlite:///{tmp_path}/a/b/c.db"))
    with pytest.raises(DatabaseFailed):
        fetch("SELECT 1")
    assert not (tmp_path / "a").exists()
    upgrade()
    close_database()
    assert (tmp_path / "a" / "b" / "c.db").is_file()


def test_a_sqlite_file_that_cannot_be_opened_fails_when_it_is_used():
    """Like a server that is away: the service starts, and says what is wrong."""
    connect(make_config("sqlite:////dev/null/x.db"))
    with pytest.raises(DatabaseFailed, match="unable to open database file: it doesn't exist"):
        fetch("SELECT 1")


def test_threads_that_write_need_no_more_connections_than_there_are(sqlite_url):
    """A thread that waits for its turn holds no connection that the writing thread needs."""
    connect(make_config(sqlite_url, DATABASE_POOL_SIZE="2"))

    def read_and_write(_):
        fetch("SELECT 1")
        execute("INSERT INTO accounts (id) VALUES (?)", str(uuid4()))
        release()
        execute("INSERT INTO accounts (id) VALUES (?)", str(uuid4()))
        release()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(read_and_write, range(160)))
    assert fetch("SELECT count(*) FROM accounts") == [(320,)]
    release()


def test_more_writers_than_connections_wait_for_nobody_who_waits_for_them(tmp_path):
    """The thread whose turn it is has a connection, in a transaction and in a statement."""
    connect(make_config(f"sqlite:///{tmp_path}/x.db", DATABASE_POOL_SIZE="2"))
    upgrade()
    tasks = [str(uuid4()) for _ in range(64)]

    def write(task):
        try:
            statements.remove_task(task, None, task)
            return execute(NEW_ACCOUNT, task, "somebody")
        finally:
            release()

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(write, tasks)) == [1] * len(tasks)
    close_database()
