"""Bytes that no client library would send, to a real gunicorn with our settings.

Whatever comes is answered in our shape, or refused by gunicorn itself; nothing is a failure of
ours, nothing leaves a traceback, and nobody can keep the others out.
"""

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import cycle
from uuid import uuid4

import pytest
import requests

from recoup.app import MAX_BODY_BYTES, create_app
from recoup.database.connection import connect
from recoup.database.migrations import upgrade
from recoup.demo.standin import StandIn
from recoup.web.worker import CLIENT_SECONDS, FIRST_BYTE_SECONDS
from tests.conftest import close_database, make_config
from tests.factories import World
from tests.privy import APP_ID, verification_key
from tests.server import Server

THREADS = 8
# What a slow client may take, and twice as much again for a slow machine.
PATIENCE = 3 * CLIENT_SECONDS
SETTINGS = {
    "WEB_CONCURRENCY": "1",
    "WEB_THREADS": str(THREADS),
    "PRIVY_APP_ID": APP_ID,
    "PRIVY_JWT_VERIFICATION_KEY": verification_key(),
    # Nobody listens there: a token that comes so far fails.
    "PRIVY_API_URL": "http://127.0.0.1:1",
}
INVALID_JSON = {"status": "error", "missing_fields": [], "error": "Invalid JSON body"}
UNAUTHORIZED = {"error": 401, "message": "Unauthorized"}
ONE_CREDENTIAL = {
    "error": 401,
    "message": "Exactly one of x-api-key or Authorization must be provided",
}
NOT_FOUND = {"status": "error", "error": "Task not found"}
SUCCESS = {"status": "success"}


@pytest.fixture(scope="module", name="world")
def _world(tmp_path_factory):
    """An upgraded database, and a stand-in, for all tests of this file."""
    url = f"sqlite:///{tmp_path_factory.mktemp('raw')}/recoup.sqlite3"
    with StandIn() as standin:
        config = make_config(url, TRIGGER_API_URL=standin.url)
        connect(config)
        upgrade()
        world = World(create_app(config), standin)
        world.url = url
        yield world
        close_database()


@pytest.fixture(scope="module", name="running")
def _running(world):
    with Server(world.url, TRIGGER_API_URL=world.standin.url, **SETTINGS) as server:
        yield server


@pytest.fixture(name="server")
def _server(running):
    """The server; it must not have failed, nor have thought that it did, in any test."""
    yield running
    assert "Traceback" not in running.stderr()
    assert [line for line in running.log_lines() if line["level"] == "error"] == []


@pytest.fixture(name="owner")
def _owner(world):
    return world.account()


@pytest.fixture(name="key")
def _key(world, owner):
    return world.key(owner).encode()


@pytest.fixture(name="task")
def _task(world, owner):
    return world.task(owner)


def body_for(task):
    """Return the body that names a task."""
    return json.dumps({"id": task}).encode()


BODY = body_for(uuid4().hex)
VALID_BODY = body_for(str(uuid4()))


def head(*lines, method=b"DELETE", path=b"/api/tasks", version=b"HTTP/1.1", close=True):
    """Return a request's head with these header lines."""
    first = b" ".join((method, path, version))
    more = [b"Connection: close"] if close else []
    return b"\r\n".join([first, b"Host: localhost", *more, *lines, b"", b""])


def length(body):
    return b"Content-Length: %d" % len(body)


def chunked(*chunks):
    """Return chunks as they are sent, the last and empty one included."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


CHUNKED = b"Transfer-Encoding: chunked"


def receive(connection):
    """Return all that comes until the server hangs up."""
    received = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


def dial(server):
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.settimeout(PATIENCE)
    return connection


def talk(server, *pieces):
    """Send the pieces on one connection; return all that comes back until it is closed."""
    with dial(server) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return receive(connection)


def statuses(received):
    """Return the status of each answer."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]


def outcome(received):
    """Return status and JSON of the last answer."""
    return statuses(received)[-1], json.loads(received.rpartition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    "line", [b"x-api-key %s", b"x-api-key\t: %s", b"x-api-key: \0%s", b"%s\0: x", b"(%s): x"]
)
def test_what_is_broken_is_not_quoted(server, key, line):
    """A key in a header that can't be read is neither answered nor logged."""
    received = talk(server, head(line % key))
    assert statuses(received) == [400]
    assert key not in received
    assert key.decode() not in server.stderr()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(head(length(BODY), length(BODY)) + BODY, 400, id="two Content-Length"),
        pytest.param(head(length(BODY), b"Content-Length: 1") + BODY, 400, id="two that differ"),
        pytest.param(head(b"Content-Length: -1"), 400, id="negative Content-Length"),
        pytest.param(head(b"Content-Length: +5") + BODY, 400, id="signed Content-Length"),
        pytest.param(head(b"Content-Length: 0x5") + BODY, 400, id="hexadecimal Content-Length"),
        pytest.param(head(length(BODY), CHUNKED) + chunked(BODY), 400, id="both framings"),
        pytest.param(head(b"Transfer-Encoding: identity"), 400, id="obsolete coding"),
        pytest.param(head(b"Transfer-Encoding: rot13"), 501, id="unknown coding"),
        pytest.param(head(b"x-api-key: a\0b"), 400, id="NUL in a header"),
        pytest.param(head(b"x-api-key: a\rb"), 400, id="bare CR in a header"),
        pytest.param(head(b"x-api-key:", b" a"), 400, id="folded header"),
        pytest.param(head(b"x-api-key : a"), 400, id="space before the colon"),
        pytest.param(head(b"Host: elsewhere"), 400, id="two Host"),
        pytest.param(head(b"Expect: the-unexpected"), 417, id="unknown expectation"),
        pytest.param(head(b"x-api-key: " + b"k" * 10_000), 431, id="a header too long"),
        pytest.param(head(*[b"X-%d: y" % n for n in range(200)]), 431, id="too many headers"),
        pytest.param(head(path=b"/" + b"p" * 9_000), 414, id="a path too long"),
        pytest.param(head(path=b"/api/\xfftasks"), 400, id="a path that is not ASCII"),
        pytest.param(head(method=b"delete"), 400, id="a method in lower case"),
        pytest.param(b"GET /healthz\r\n\r\n", 400, id="HTTP/0.9"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", 400, id="TLS"),
    ],
)
def test_what_is_not_http_never_comes_to_us(server, request_bytes, status):
    """gunicorn refuses it once and hangs up, before any of it is taken for a request.

    A page can read the refusal, as any answer of ours.
    """
    before = len(server.log_lines())
    received = talk(server, request_bytes)
    assert statuses(received) == [status]
    reason = received.partition(b"\r\n")[0].decode().split(" ", 2)[2]
    assert outcome(received) == (status, {"status": "error", "error": reason})
    assert b"\r\nContent-Type: application/json\r\n" in received
    assert b"\r\nAccess-Control-Allow-Origin: *\r\n" in received
    assert len(server.log_lines()) == before


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([b"SCRIPT_NAME: /foo"], id="a prefix that the path lacks"),
        pytest.param([b"SCRIPT_NAME: /api"], id="a prefix"),
        pytest.param([b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off"], id="two proxies"),
    ],
)
def test_what_a_proxy_says_of_scheme_and_path_changes_nothing(server, lines):
    """Nothing here depends on it."""
    request_bytes = head(b"x-api-key: unknown", *lines, length(VALID_BODY)) + VALID_BODY
    assert outcome(talk(server, request_bytes)) == (401, UNAUTHORIZED)


def test_an_odd_host_is_no_wrong_body(server):
    """It is refused in other words."""
    received = talk(server, b"GET /healthz HTTP/1.0\r\nHost: %s\r\n\r\n" % (b"h" * 3000))
    assert outcome(received) == (400, {"status": "error", "error": "Bad Request"})


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        pytest.param(head(CHUNKED) + b"zz\r\n{}\r\n0\r\n\r\n", INVALID_JSON, id="size no number"),
        pytest.param(head(CHUNKED) + b"-1\r\n{}\r\n0\r\n\r\n", INVALID_JSON, id="negative size"),
        pytest.param(head(CHUNKED) + b"1\r\n{}\r\n0\r\n\r\n", INVALID_JSON, id="size too small"),
        pytest.param(
            head(CHUNKED) + b"2\r\n{}\r\n0\r\nno trailer\r\n\r\n", INVALID_JSON, id="bad trailer"
        ),
        pytest.param(head(CHUNKED) + b"2;" + b"x" * 20_000, INVALID_JSON, id="endless size line"),
        pytest.param(
            head(b"Transfer-Encoding: gzip, chunked") + chunked(BODY),
            {"status": "error", "missing_fields": ["id"], "error": "id must be a valid UUID"},
            id="said to be compressed",
        ),
        pytest.param(head(), INVALID_JSON, id="no body"),
    ],
)
def test_a_body_that_is_none_is_a_bad_request(server, request_bytes, expected):
    """What is wrong with the chunks is found only as we read them, and is 400 all the same."""
    assert outcome(talk(server, request_bytes)) == (400, expected)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([b"x-api-key: a", b"x-api-key: b"], UNAUTHORIZED, id="two x-api-key"),
        pytest.param(
            [b"Authorization: Bearer a", b"Authorization: Bearer b"],
            UNAUTHORIZED,
            id="two Authorization",
        ),
        pytest.param([b"x-api-key: a", b"Authorization: Bearer a"], ONE_CREDENTIAL, id="both"),
        pytest.param([b"x_api_key: a"], ONE_CREDENTIAL, id="underscores"),
        pytest.param([b"x-api-key: \xff\xe9"], UNAUTHORIZED, id="key in Latin-1"),
        pytest.param(["x-api-key: ключ".encode()], UNAUTHORIZED, id="key in UTF-8"),
        pytest.param([b"Authorization: Bearer \xff\xe9"], UNAUTHORIZED, id="token in Latin-1"),
        pytest.param(
            [b"Authorization: Bearer recoup_sk_\xff"], UNAUTHORIZED, id="bearer key in Latin-1"
        ),
        pytest.param([b"Authorization: Bearer \xff.\xff.\xff"], UNAUTHORIZED, id="a bent token"),
        pytest.param(
            [b"Authorization: \xff\xfe a"],
            {"error": 401, "message": "Authorization header with Bearer token required"},
            id="scheme in Latin-1",
        ),
    ],
)
def test_odd_credentials_are_no_credentials(server, lines, expected):
    """Each is 401, and never a failure."""
    request_bytes = head(*lines, length(VALID_BODY)) + VALID_BODY
    assert outcome(talk(server, request_bytes)) == (401, expected)


def test_the_right_key_twice_is_no_credential(server, world, task, key):
    """Two headers of one name are not one of them, even if both would do; the task stays."""
    body = body_for(task)
    request_bytes = head(b"x-api-key: " + key, b"x-api-key: " + key, length(body)) + body
    assert outcome(talk(server, request_bytes)) == (401, UNAUTHORIZED)
    assert world.row(task)


@pytest.mark.parametrize("given", [b"\xff\xe9", b"a b", b"x" * 65, b'"},{"level": "error"'])
def test_an_odd_request_id_is_replaced(server, given):
    """It comes back neither in the answer nor in the log."""
    received = talk(server, head(b"X-Request-ID: " + given, method=b"GET", path=b"/healthz"))
    request_id = re.search(rb"X-Request-ID: (\w{32})\r\n", received)
    assert request_id
    assert server.log_lines()[-1]["request_id"] == request_id[1].decode()


@pytest.mark.parametrize("size", [1, 20, 1000])
def test_a_chunked_body_is_a_body(server, world, task, key, size):
    """In one piece or in many, it names the task that is deleted."""
    body = body_for(task)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    received = talk(server, head(CHUNKED, b"x-api-key: " + key), chunked(*pieces))
    assert outcome(received) == (200, SUCCESS)
    assert (world.row(task), world.schedule_ids(task)) == (None, [])


def test_who_asks_whether_to_send_the_body_is_told_to(server, world, task, key):
    """`Expect: 100-continue` is answered before the body, as curl waits for it."""
    body = body_for(task)
    with dial(server) as connection:
        connection.sendall(head(b"Expect: 100-continue", b"x-api-key: " + key, length(body)))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert outcome(receive(connection)) == (200, SUCCESS)
    assert world.row(task) is None


def test_http_1_0_will_do(server, world, task, key):
    """An old client deletes too."""
    body = body_for(task)
    lines = (b"x-api-key: " + key, length(body))
    assert outcome(talk(server, head(*lines, version=b"HTTP/1.0") + body)) == (200, SUCCESS)
    assert world.row(task) is None


def test_requests_in_a_row_on_one_connection_are_each_answered(server, world, task, key):
    """Sent at once, without waiting: the first deletes, the second finds nothing."""
    body = body_for(task)
    lines = (b"x-api-key: " + key, length(body))
    one = head(*lines, close=False) + body
    received = talk(server, one + one + head(*lines) + body)
    assert statuses(received) == [200, 404, 404]
    assert outcome(received) == (404, NOT_FOUND)
    assert world.row(task) is None


@pytest.mark.parametrize(("path", "status"), [(b"/healthz", 200), (b"/api/tasks", 405)])
def test_head_is_answered_without_a_body(server, path, status):
    """The head says what GET would, and nothing follows."""
    received = talk(server, head(method=b"HEAD", path=path))
    assert statuses(received) == [status]
    assert received.endswith(b"\r\n\r\n")
    assert (b"Allow: " in received) == (status == 405)


@pytest.mark.parametrize("framing", [CHUNKED, b"Content-Length: 99999999999"])
def test_an_endless_body_is_too_large(server, framing):
    """Once it is over the limit it is 413, however much is to come."""
    piece = b" " * 4096
    with dial(server) as connection, suppress(ConnectionError):
        connection.sendall(head(framing))
        sent = 0
        while sent < 4 * MAX_BODY_BYTES:
            connection.sendall(
                chunked(piece)[: -len(b"0\r\n\r\n")] if framing == CHUNKED else piece
            )
            sent += len(piece)
        assert outcome(receive(connection))[0] == 413


def in_chunks(body):
    """Return the header and the bytes of a body in two chunks."""
    return CHUNKED, chunked(body[:-1], body[-1:])


def with_length(body):
    """Return the header and the bytes of a body in one piece."""
    return length(body), body


@pytest.mark.parametrize("framed", [in_chunks, with_length])
def test_a_body_may_be_as_long_as_the_limit_and_no_longer(server, world, task, key, framed):
    """A byte more is 413, though its beginning would do: it is never cut to size."""
    for size, status in ((MAX_BODY_BYTES + 1, 413), (MAX_BODY_BYTES, 200)):
        framing, body = framed(body_for(task).ljust(size))
        received = talk(server, head(framing, b"x-api-key: " + key), body)
        assert outcome(received)[0] == status
        assert (world.row(task) is None) == (status == 200)


def test_what_comes_after_half_a_body_is_no_request(server, world, task, key):
    """The connection of such a body is closed: the rest could look like a request."""
    body = body_for(task)
    hidden = head(b"x-api-key: " + key, length(body)) + body
    with dial(server) as connection:
        connection.sendall(head(b"Content-Length: 1000", close=False) + b'{"id": ')
        received = connection.recv(65536)
        with suppress(ConnectionError):
            connection.sendall(hidden)
        received += receive(connection)
    assert outcome(received) == (400, INVALID_JSON)
    assert len(statuses(received)) == 1
    assert world.row(task)


HEALTH = {"method": b"GET", "path": b"/healthz"}
STALLED = [
    b"",
    b"DELETE /api/ta",
    head(b"Content-Length: 100", close=False) + b'{"id": ',
    head(CHUNKED, close=False) + b'5\r\n{"i',
    head(CHUNKED, close=False) + chunked(b"{}")[:-2],
    head(**HEALTH, close=False) + b"GET /heal",
]


def assert_others_are_served(server):
    """Assert that three requests after another are answered before long."""
    end = time.monotonic() + PATIENCE
    for _ in range(3):
        assert requests.get(f"{server.url}/healthz", timeout=end - time.monotonic()).ok


def test_clients_that_stall_are_given_up(server):
    """Wherever in a request they stall, they are disconnected, and waiting clients are served."""
    with ExitStack() as stack:
        stalled = [stack.enter_context(dial(server)) for _ in range(THREADS)]
        for connection, data in zip(stalled, cycle(STALLED), strict=False):
            connection.sendall(data)
        assert_others_are_served(server)
        for connection in stalled:
            assert set(statuses(receive(connection))) <= {200, 400}


def test_clients_that_say_nothing_hold_no_thread(server):
    """Browsers and proxies open connections before they send a request."""
    with ExitStack() as stack:
        for _ in range(4 * THREADS):
            stack.enter_context(dial(server))
        started = time.monotonic()
        assert_others_are_served(server)
        assert time.monotonic() - started < CLIENT_SECONDS


def test_a_connection_made_before_a_stop_is_answered(world):
    """A request that begins while the workers are stopping is still answered."""
    with (
        Server(world.url, TRIGGER_API_URL=world.standin.url, **SETTINGS) as server,
        dial(server) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        time.sleep(4 * FIRST_BYTE_SECONDS)
        stopped = pool.submit(server.stop)
        time.sleep(4 * FIRST_BYTE_SECONDS)
        connection.sendall(head(method=b"GET", path=b"/healthz"))
        assert statuses(receive(connection)) == [200]
        stopped.result()


def test_clients_that_do_not_hang_up_are_not_waited_for(server):
    """They have their answer and keep the connection open, but nobody else has to wait."""
    with ExitStack() as stack:
        for _ in range(2 * THREADS):
            stack.enter_context(dial(server)).sendall(head(**HEALTH))
        assert_others_are_served(server)


def test_clients_that_do_not_read_are_given_up(server):
    """They ask for more than the network's buffers hold, again and again, and read nothing."""
    request_bytes = head(method=b"GET", path=b"/docs/swagger-ui-bundle.js", close=False)
    with ExitStack() as stack:
        for _ in range(THREADS):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(request_bytes * 4)
        assert_others_are_served(server)


def test_a_client_that_drips_is_given_up(server):
    """Each byte comes in time, but the whole request does not."""
    started = time.monotonic()
    with dial(server) as connection, suppress(ConnectionError):
        connection.sendall(head(b"Content-Length: 1000"))
        while time.monotonic() < started + PATIENCE:
            connection.sendall(b" ")
            time.sleep(0.2)
    assert CLIENT_SECONDS <= time.monotonic() - started < PATIENCE
