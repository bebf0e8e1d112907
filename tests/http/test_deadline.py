"""A call ends within its seconds, whatever the other side does."""

import gzip
import socket
import threading
import time

import pytest
import requests
import urllib3

from recoup.demo.standin import Fault
from recoup.http.client import BODY_LIMIT_BYTES, Client
from recoup.http.deadline import Deadline
from tests.sockets import answer_with, black_hole, make_certificate, server_context, talker

SECONDS = 0.5
# For a machine that is busy with something else.
GRACE = 1.0
ABSENT = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
PATH = "/api/v1/schedules/sched_x"


@pytest.fixture
def clients():
    """Clients by their base URL, as one speaks to one service; `verify` is what they trust."""
    return {}


@pytest.fixture
def call(standin, clients):
    def send(url, seconds=SECONDS, verify=True, **options):
        if url not in clients:
            headers = {"Authorization": f"Bearer {standin.secret_key}"}
            clients[url] = Client(url, headers=headers)
        clients[url].verify = verify
        return clients[url].send("DELETE", PATH, seconds, **options)

    return send


@pytest.fixture
def in_time():
    started = time.monotonic()
    yield
    assert time.monotonic() - started < SECONDS + GRACE


@pytest.fixture
def certificate(tmp_path):
    return make_certificate(tmp_path)


@pytest.fixture
def tls_standin(standin, certificate):
    """The stand-in behind TLS; its `url` stays the unencrypted one."""
    server = standin._server
    server.socket = server_context(certificate).wrap_socket(server.socket, server_side=True)
    return standin


def url_of(address, scheme="http"):
    return f"{scheme}://{address[0]}:{address[1]}"


def resolve_to(monkeypatch, *addresses):
    """Let every host name have these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_a_deadline_counts_down_and_below_zero():
    """What is left shrinks with time and goes on below zero."""
    deadline = Deadline(0.01)
    assert 0 < deadline.left() <= 0.01
    time.sleep(0.02)
    assert deadline.left() < 0


def test_an_answer_is_a_status_headers_and_a_body(standin, call):
    """Whatever the status says, an answer is returned and not raised."""
    standin.fail(Fault.status(418, b"short and stout", {"X-Pot": "tea"}))
    answer = call(standin.url)
    assert (answer.status, answer.body) == (418, b"short and stout")
    assert answer.headers["x-pot"] == "tea"


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize(
    "fault",
    [Fault.hang(60), Fault.drip(0.2), Fault.drip(0.2, where="body")],
    ids=lambda fault: fault.kind,
)
def test_silence_and_drips_end_with_the_seconds(standin, call, fault):
    """A byte now and then buys the server no time."""
    standin.always(fault)
    with pytest.raises(requests.RequestException):
        call(standin.url)


@pytest.mark.usefixtures("in_time")
def test_a_kept_connection_has_no_more_time_than_a_new_one(standin, call):
    """The seconds of a call on a kept connection are its own, and as many."""
    call(standin.url, seconds=30)
    standin.always(Fault.drip(0.2))
    with pytest.raises(requests.RequestException):
        call(standin.url)


def test_a_call_after_a_late_one_has_all_its_time(standin, call):
    """What one call has used up is not missing from the next."""
    standin.fail(Fault.hang(60), Fault.delay(SECONDS * 1.5))
    with pytest.raises(requests.ReadTimeout):
        call(standin.url)
    assert call(standin.url, seconds=30).status == 404


@pytest.mark.usefixtures("in_time")
def test_interim_answers_for_ever_end_with_the_seconds(call):
    """An answer that is always yet to come is none."""
    endless = answer_with(b"HTTP/1.1 100 Continue\r\n\r\n", endlessly=True)
    with talker(endless) as address, pytest.raises(requests.RequestException):
        call(url_of(address))


@pytest.mark.parametrize("interim", [102, 103, 199])
def test_interim_answers_are_read_past(call, interim):
    """The final answer is the one that counts, and none is left for the next request."""
    early = f"HTTP/1.1 {interim} Wait\r\nlink: x\r\n\r\n".encode()
    with talker(answer_with(early * 2 + ABSENT)) as address:
        assert call(url_of(address)).status == 404


@pytest.mark.parametrize("status", [101, 200])
def test_an_answer_that_is_final_is_not_read_past(call, status):
    """After a 101 the server speaks another protocol."""
    final = f"HTTP/1.1 {status} Well\r\ncontent-length: 0\r\n\r\n".encode()
    with talker(answer_with(final + ABSENT)) as address:
        assert call(url_of(address)).status == status


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b"220 smtp.example ESMTP\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1,2\r\n\r\n",
        CHUNKED + b"-5\r\n{}\r\n0\r\n\r\n",
    ],
    ids=["nothing", "zeros", "smtp", "status", "headers", "header", "length", "chunk"],
)
def test_what_is_not_http_is_a_request_exception(call, data):
    """Callers have one kind of error to expect."""
    with talker(answer_with(data)) as address, pytest.raises(requests.RequestException):
        call(url_of(address))


def test_an_idle_connection_is_kept_alive(call, clients, standin):
    """Else a firewall forgets it, and the next call waits for an answer that can't come."""
    call(standin.url)
    [kept] = [one for one in clients[standin.url]._adapter._pool.pool.queue if one]
    options = (socket.SO_KEEPALIVE, socket.TCP_NODELAY)
    levels = (socket.SOL_SOCKET, socket.IPPROTO_TCP)
    assert all(map(kept.sock.getsockopt, levels, options))
    if hasattr(socket, "TCP_KEEPIDLE"):  # Linux has it
        assert kept.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


def test_an_idle_connection_to_a_proxy_is_kept_alive(standin):
    """It is made in another way."""
    client = Client("http://trigger.test", proxy_url=standin.url)
    client.send("GET", PATH, SECONDS)
    [kept] = [one for one in client._adapter._pool.pool.queue if one]
    assert kept.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_connection_that_is_not_made_ends_with_the_seconds(call, in_time):
    """A host that drops packets costs no more than the time of the call."""
    with black_hole() as address, pytest.raises(requests.ConnectTimeout):
        call(url_of(address))


@pytest.mark.usefixtures("in_time")
def test_connecting_has_less_time_than_the_whole_call(call, monkeypatch):
    """A call with much time gives up early on a host that swallows packets, to try again."""
    monkeypatch.setattr("recoup.http.deadline.CONNECT_SECONDS", SECONDS)
    with black_hole() as address, pytest.raises(requests.ConnectTimeout):
        call(url_of(address), seconds=30)


def test_all_addresses_of_a_host_share_the_seconds(call, in_time, monkeypatch):
    """However many dead addresses a name has, the call ends in time."""
    with black_hole() as address:
        resolve_to(monkeypatch, *[address] * 8)
        with pytest.raises(requests.ConnectTimeout):
            call("http://many.test")


def test_a_dead_address_leaves_time_for_a_live_one(standin, call, in_time, monkeypatch):
    """The first of two addresses may be dead, and the answer still comes."""
    live = ("127.0.0.1", int(standin.url.rpartition(":")[2]))
    with black_hole() as dead:
        resolve_to(monkeypatch, dead, live)
        assert call("http://two.test").status == 404


def test_a_name_that_is_unknown_is_a_connection_error(call, monkeypatch):
    """A name that cannot be looked up fails as a connection that was never made."""

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(requests.ConnectionError) as caught:
        call("http://unknown.test")
    assert isinstance(caught.value.args[0].reason, urllib3.exceptions.NameResolutionError)


@pytest.mark.parametrize("fault", [Fault.half_body(act=True), Fault.drip(0.2, True, "body")])
def test_a_success_whose_body_breaks_off_is_no_answer(standin, call, fault):
    """What a success is counts by its words."""
    standin.schedules["sched_x"] = {"id": "sched_x"}
    standin.fail(fault)
    with pytest.raises(requests.RequestException):
        call(standin.url)


def test_an_error_whose_body_breaks_off_is_no_answer(standin, call):
    """Half an explanation explains nothing."""
    standin.fail(Fault.half_body())
    with pytest.raises(requests.ConnectionError):
        call(standin.url)


def test_a_body_is_read_up_to_its_limit(standin, call):
    """A server cannot fill our memory."""
    standin.fail(Fault.status(200, b"x" * (BODY_LIMIT_BYTES * 2)))
    assert call(standin.url, seconds=30).body == b"x" * BODY_LIMIT_BYTES


def test_a_compressed_body_is_not_unpacked(standin, call):
    """Nor can it with a small body that unpacks to a large one; none is asked for."""
    bomb = gzip.compress(b"0" * 10_000_000)
    standin.fail(Fault.status(200, bomb, {"content-encoding": "gzip"}))
    assert call(standin.url, seconds=30).body == bomb
    assert standin.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("location", ["/elsewhere", "http://[", "http://\x80/", "ftp://x", "//"])
def test_a_redirect_is_not_followed_nor_even_looked_at(standin, call, location):
    """Wherever it leads, a redirect is an answer like any other."""
    standin.fail(Fault.redirect(location))
    assert call(standin.url).status == 307
    assert len(standin.requests) == 1


def test_threads_have_their_own_seconds(standin, call):
    """A call that hangs takes nothing from those beside it."""
    standin.fail(Fault.hang(60))
    failed = []

    def hang():
        with pytest.raises(requests.ReadTimeout) as caught:
            call(standin.url, seconds=2)
        failed.append(caught.value)

    thread = threading.Thread(target=hang)
    thread.start()
    while not standin.requests:
        time.sleep(0.01)
    assert [call(standin.url, seconds=30).status for _ in range(5)] == [404] * 5
    assert failed == []
    thread.join()
    assert len(failed) == 1


def test_a_late_byte_buys_no_more_time(call):
    """After a byte near the end, the wait goes on until the end, and does not start again."""

    def late(connection):
        connection.recv(65536)
        time.sleep(2)
        connection.sendall(b"H")
        connection.recv(1)

    started = time.monotonic()
    with talker(late) as address:
        with pytest.raises(requests.RequestException):
            call(url_of(address), seconds=2.5)
        assert time.monotonic() - started < 2.5 + GRACE


def test_a_slow_tunnel_leaves_the_encryption_less_time():
    """Both are part of the call, and of its seconds."""

    def tunnel_late(connection):
        connection.recv(65536)
        time.sleep(1.8)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while connection.recv(65536):
            pass  # and never encrypt

    with talker(tunnel_late) as (host, port):
        client = Client("https://trigger.test", proxy_url=f"http://{host}:{port}")
        started = time.monotonic()
        with pytest.raises(requests.ConnectionError):
            client.send("DELETE", PATH, 2)
        assert time.monotonic() - started < 2 + GRACE


def test_an_encrypted_call_is_answered(tls_standin, call, certificate):
    """All this holds for https too, with a certificate that is trusted."""
    url = tls_standin.url.replace("http:", "https:")
    assert call(url, verify=str(certificate)).status == 404


def test_a_certificate_that_is_not_trusted_ends_the_call(tls_standin, call):
    """Without a trusted certificate nothing is sent."""
    with pytest.raises(requests.exceptions.SSLError):
        call(tls_standin.url.replace("http:", "https:"))
    assert tls_standin.requests == []


@pytest.mark.parametrize("where", ["headers", "body"])
def test_an_encrypted_drip_ends_with_the_seconds(tls_standin, call, certificate, in_time, where):
    """Encryption hides no drip."""
    tls_standin.always(Fault.drip(0.2, where=where))
    url = tls_standin.url.replace("http:", "https:")
    with pytest.raises(requests.RequestException):
        call(url, verify=str(certificate))


def test_a_handshake_that_hangs_is_a_connection_not_made(call, in_time):
    """A server that accepts and then says nothing of TLS has been sent nothing."""
    silence = threading.Event()
    with talker(lambda _: silence.wait(5)) as address:
        with pytest.raises(requests.ConnectionError) as caught:
            call(url_of(address, "https"))
        silence.set()
    assert isinstance(caught.value.args[0].reason, urllib3.exceptions.NewConnectionError)


@pytest.mark.usefixtures("in_time")
def test_a_handshake_has_no_more_time_than_connecting(call, monkeypatch):
    """A call with much time gives up early, to try again."""
    monkeypatch.setattr("recoup.http.deadline.CONNECT_SECONDS", SECONDS)
    silence = threading.Event()
    with talker(lambda _: silence.wait(5)) as address:
        with pytest.raises(requests.ConnectionError):
            call(url_of(address, "https"), seconds=30)
        silence.set()


def test_a_handshake_has_all_the_time_that_connecting_left(call, certificate, monkeypatch):
    """The first of two addresses connects at once, and then needs more than half the time."""
    monkeypatch.setattr("recoup.http.deadline.CONNECT_SECONDS", 1.6)

    def late(connection):
        time.sleep(1)
        with server_context(certificate).wrap_socket(connection, server_side=True) as encrypted:
            answer_with(ABSENT)(encrypted)

    with talker(late) as address:
        resolve_to(monkeypatch, address, address)
        assert call(url_of(address, "https"), seconds=30, verify=str(certificate)).status == 404
