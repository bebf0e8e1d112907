"""`ops/nginx.conf` in a real nginx, before our service and a server that plays the existing API."""

import os
import re
import shutil
import threading
import time
from collections import Counter
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import requests

from recoup.app import create_app
from recoup.database.migrations import upgrade
from recoup.demo.standin import StandIn
from tests.conftest import close_database, make_config
from tests.deployment.nginx import SNIPPET, existing_api, long_way, nginx
from tests.factories import World
from tests.server import REPOSITORY, Server
from tests.sockets import talker

pytestmark = pytest.mark.xdist_group("nginx")

SECONDS = 60
# One way. Ten times what there is between two halls of a data centre.
WAY_SECONDS = 0.01
CLIENTS = 32
# How long connections are idle: nginx closes them after 4 s, and our server after 5.
IDLE_SECONDS = (3.98, 4.0, 4.02, 4.96, 4.98, 4.99, 5.0, 5.01)


@pytest.fixture(name="program", scope="module")
def _program():
    """An nginx; where none is installed, the tests are skipped, unless one is required."""
    path = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        required = os.environ.get("RECOUP_REQUIRE_NGINX") == "1"
        (pytest.fail if required else pytest.skip)("no nginx; `apt-get install nginx` brings it")
    return path


@pytest.fixture(name="behind", scope="module")
def _behind(program, tmp_path_factory):
    """Our server, the existing API, and the URL of an nginx before the two."""
    folder = tmp_path_factory.mktemp("nginx")
    url = f"sqlite:///{folder}/recoup.sqlite3"
    with StandIn() as standin:
        world = World(create_app(make_config(url)), standin)
        upgrade()
        with (
            Server(url, TRIGGER_API_URL=standin.url) as server,
            existing_api() as (existing_port, asked),
            nginx(program, folder / "front", server.port, existing_port) as front,
        ):
            yield SimpleNamespace(**locals())
            close_database()


@pytest.fixture(name="server")
def _server(behind):
    return behind.server


@pytest.fixture(name="front")
def _front(behind):
    """The URL of nginx."""
    return behind.front


@pytest.fixture(name="asked")
def _asked(behind):
    """What the existing API is asked in the course of this test."""
    behind.asked.clear()
    return behind.asked


def ask(url, method="DELETE", **options):
    return requests.request(method, url, timeout=SECONDS, allow_redirects=False, **options)


def test_a_delete_of_a_task_comes_to_us_with_its_body(behind, front, asked):
    """And is done, as is one whose body comes in chunks."""
    world = behind.world
    owner = world.account()
    headers = {"x-api-key": world.key(owner)}
    whole, chunked = world.task(owner), world.task(owner)
    chunks = iter([b'{"id": "', chunked.encode(), b'"}'])
    answers = [
        ask(f"{front}/api/tasks", headers=headers, json={"id": whole}),
        ask(f"{front}/api/tasks?any=thing", headers=headers, data=chunks),
    ]
    assert [answer.json() for answer in answers] == [{"status": "success"}] * 2
    assert [world.row(task) for task in (whole, chunked)] == [None, None]
    assert (behind.standin.schedules, asked) == ({}, [])


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PATCH", "PUT", "OPTIONS"])
@pytest.mark.parametrize("path", ["/api/tasks", "/api/tasks?id=1"])
def test_every_other_method_goes_to_the_existing_api(front, asked, method, path):
    """Its lists, changes and preflights stay what they were."""
    answer = ask(front + path, method, data=b"{}" if method != "HEAD" else None)
    assert answer.headers["X-Existing"] == "yes"
    assert asked == [(method, path)]


@pytest.mark.parametrize("path", ["/", "/api/tasks/", "/api/tasks/runs", "/api/tasksx", "/api"])
def test_every_other_path_goes_to_the_existing_api(front, asked, path):
    """Whatever the method."""
    assert ask(front + path).headers["X-Existing"] == "yes"
    assert asked == [("DELETE", path)]


def test_the_existing_api_is_told_whom_the_caller_asked(front):
    """As it may answer by the host's name, and build addresses of its own with it."""
    headers = ask(f"{front}/api/tasks", "GET", headers={"Host": "api.example.com:8443"}).headers
    told = [headers[f"Told-{name}"] for name in ("Host", "X-Forwarded-For", "X-Forwarded-Proto")]
    assert told == ["api.example.com:8443", "127.0.0.1", "http"]


@pytest.mark.parametrize("path", ["/readyz", "/metrics", "/healthz", "/docs", "/openapi.json"])
def test_nothing_else_of_ours_is_published(front, path):
    """What says how we are is for those inside."""
    assert ask(front + path, "GET").headers["X-Existing"] == "yes"


def test_the_way_that_nginx_takes_inside_is_closed_to_callers(front, asked):
    """Or any method would come to us by it."""
    assert ask(f"{front}/_recoup", "GET").status_code == 404
    assert asked == []


def test_a_callers_request_id_is_kept(front, server):
    """In the answer and the log; who sends none is given one."""
    sent = {"X-Request-ID": "the-callers-own"}
    assert ask(f"{front}/api/tasks", headers=sent).headers["X-Request-ID"] == sent["X-Request-ID"]
    assert sent["X-Request-ID"] in [line.get("request_id") for line in server.log_lines()]
    assert len(ask(f"{front}/api/tasks").headers["X-Request-ID"]) >= 16


def test_a_body_that_is_too_big_gets_our_answer(front):
    """The limit of nginx is above ours, which answers in the API's own shape."""
    answer = ask(f"{front}/api/tasks", data=b" " * 70_000)
    assert (answer.status_code, answer.json()["status"]) == (413, "error")


def test_while_we_are_down_no_delete_goes_to_the_existing_api(front, server, asked):
    """Whose own delete may leave a schedule behind."""
    server.stop()
    try:
        assert ask(f"{front}/api/tasks", data=b"{}").status_code == 502
        assert asked == []
    finally:
        server.start()


def test_nginx_closes_idle_connections_before_we_do():
    """With a second between the two."""
    theirs = int(re.search(r"keepalive_timeout (\d+)s;", SNIPPET.read_text())[1])
    settings = (REPOSITORY / "gunicorn.conf.py").read_text()
    ours = int(re.search(r"^keepalive = (\d+)$", settings, re.MULTILINE)[1])
    assert theirs + 1 <= ours


def test_a_delete_that_got_no_answer_is_not_sent_again(program, tmp_path, behind):
    """It may have been done, and a second answer would be 404."""
    came = []

    def answer_the_first(connection):
        for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""):
            came.append(connection.recv(65536))
            connection.sendall(answer)

    with (
        talker(answer_the_first) as (_, port),
        nginx(program, tmp_path / "nginx", port, behind.existing_port) as url,
    ):
        assert [ask(f"{url}/api/tasks").status_code for _ in range(2)] == [200, 502]
    assert len(came) == 2


def at_once(url):
    """Send as many requests at once as there are clients; return their statuses."""
    statuses = []

    def send():
        statuses.append(ask(f"{url}/api/tasks", data=b'{"id": 1}').status_code)

    threads = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@pytest.mark.alone
def test_no_request_meets_a_connection_that_is_being_closed(program, tmp_path, behind):
    """However long it was idle, and though it takes a while until nginx hears of the end."""
    statuses = []

    def ask_again_after(url, seconds):
        statuses.extend(at_once(url))
        time.sleep(seconds)
        statuses.extend(at_once(url))

    with ExitStack() as stack:
        port = stack.enter_context(long_way(behind.server.port, WAY_SECONDS))
        threads = [
            threading.Thread(target=ask_again_after, args=(stack.enter_context(front), seconds))
            for seconds in IDLE_SECONDS
            for front in [nginx(program, tmp_path / f"{seconds}", port, behind.existing_port)]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert Counter(statuses) == {400: 2 * CLIENTS * len(IDLE_SECONDS)}
