"""A reload serves with new settings or, where it can't be done, changes nothing.

A worker is replaced after each, as one may be at night.
"""

from functools import partial

import pytest

from recoup.app import create_app
from tests.conftest import close_database, make_config
from tests.deployed import Deployed
from tests.factories import World
from tests.server import REPOSITORY
from tests.waiting import wait_for

WARNING = '"level": "warning"'
SECRETS = ("first", "second")
wait = partial(wait_for, seconds=60)


@pytest.fixture
def keys(sqlite_url, standin):
    """An API key for each of the two secrets."""
    made = []
    for secret in SECRETS:
        world = World(create_app(make_config(sqlite_url, PRIVY_PROJECT_SECRET=secret)), standin)
        made.append(world.key(world.account()))
        close_database()
    return made


@pytest.fixture
def server(tmp_path, sqlite_url):
    """A server that was started with the first secret."""
    with Deployed(tmp_path / "deployed", sqlite_url, PRIVY_PROJECT_SECRET=SECRETS[0]) as deployed:
        yield deployed


def break_value(server):
    server.write(WEB_THREADS="eight")
    return "WEB_THREADS: must be a number."


def write_half_a_line(server):
    server.write(WEB_THREADS="'8")
    return ".env: line 5 can't be read."


def leave_out_a_secret(server):
    server.write(PRIVY_PROJECT_SECRET=None)
    return "PRIVY_PROJECT_SECRET: is required."


def misspell_a_secret(server):
    server.write(PRIVY_PROJECT_SECRET=None, PRIVY_PROJEKT_SECRET="first")
    return "PRIVY_PROJEKT_SECRET is set: is it meant for this?"


def write_another_encoding(server):
    server.folder.joinpath(".env").write_bytes("A=ä".encode("latin-1"))
    return ".env: can't be read: 'utf-8' codec"


def put_a_folder_there(server):
    server.folder.joinpath(".env").unlink()
    server.folder.joinpath(".env").mkdir()
    return ".env: can't be read: [Errno 21] Is a directory"


def name_a_file_that_is_not_there(server):
    server.write(REQUESTS_CA_BUNDLE="/nowhere")
    return "REQUESTS_CA_BUNDLE: names a file that can't be read: No such file or directory."


def write_a_url_that_no_worker_could_use(server):
    server.write(TRIGGER_API_URL="http://127.0.0.1:99999")
    return "TRIGGER_API_URL: must be a URL."


def name_another_port(server):
    server.write(PORT=str(server.port - 1))
    return "Another HOST or PORT takes a restart."


def break_the_servers_own_settings(server):
    with server.folder.joinpath("gunicorn.conf.py").open("a") as file:
        file.write("this is no Python\n")
    return "The lines above say why."


@pytest.mark.parametrize(
    "spoil",
    [
        break_value,
        write_half_a_line,
        leave_out_a_secret,
        misspell_a_secret,
        write_another_encoding,
        put_a_folder_there,
        name_a_file_that_is_not_there,
        write_a_url_that_no_worker_could_use,
        name_another_port,
        break_the_servers_own_settings,
    ],
)
def test_a_reload_that_cannot_be_done_changes_nothing(server, keys, spoil):
    """The old workers go on with the old settings, and so does a worker that replaces one."""
    old = server.workers()
    reason = spoil(server)
    server.reload()
    wait(lambda: "Not reloaded" in server.stderr())
    assert reason in server.stderr()
    assert server.workers() == old
    assert [server.knows(key) for key in keys] == [True, False]
    server.kill_worker(old[0])
    server.wait_until_ready()
    assert server.workers() != old
    assert [server.knows(key) for key in keys] == [True, False]


def test_a_reload_serves_with_what_was_mended(server, keys):
    """As if the one that could not be done had never been asked for."""
    server.write(PRIVY_PROJECT_SECRET=None)
    server.reload()
    wait(lambda: "Not reloaded" in server.stderr())
    reload_with_the_second_secret(server)
    assert [server.knows(key) for key in keys] == [False, True]
    leave_out_a_secret(server)
    server.kill_worker(server.workers()[0])
    server.wait_until_ready()
    assert [server.knows(key) for key in keys] == [False, True]


def reload_with_the_second_secret(server):
    old = server.workers()
    server.write(PRIVY_PROJECT_SECRET=SECRETS[1])
    server.reload()
    wait(lambda: server.serving() and not set(old) & set(server.workers()))


@pytest.mark.parametrize("text", ["PRIVY_PROJECT_SECRET=half-edi", "", "A=\xff"])
def test_a_replaced_worker_has_the_settings_that_were_checked(server, keys, text):
    """Nobody has asked for the changed `.env`; somebody may still be editing it."""
    server.folder.joinpath(".env").write_text(text, encoding="latin-1")
    server.kill_worker(server.workers()[0])
    server.wait_until_ready()
    assert [server.knows(key) for key in keys] == [True, False]


def test_names_that_look_like_a_mistake_are_in_the_log(server):
    """At the start and at each reload; other names in the environment are no mistakes."""
    assert WARNING not in server.stderr()
    server.write(
        TRIGER_API_URL="http://x", TRIGGER_PROJECT_ID="proj_x", RECOUP_TEST_X="1", LANG="C"
    )
    server.reload()
    wait(lambda: "TRIGGER_PROJECT_ID is not a setting of this service." in server.stderr())
    assert "TRIGER_API_URL is not a setting of this service; is TRIGGER_API_URL meant?" in (
        server.stderr()
    )
    assert server.stderr().count(WARNING) == 2


def test_the_unit_checks_before_it_reloads():
    """So that `systemctl reload` itself says what is wrong."""
    unit = (REPOSITORY / "ops" / "recoup.service").read_text()
    first, second = [line for line in unit.splitlines() if line.startswith("ExecReload=")]
    assert first.endswith("recoup config check")
    assert second.endswith("kill -HUP $MAINPID")
