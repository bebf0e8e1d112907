"""Where the service can be reached: at every address of the machine, or at one."""

import socket

import pytest
import requests

from recoup.web.serving import find_addresses
from tests.deployed import Deployed

SECONDS = 60
EVERYWHERE = ("127.0.0.1", "127.0.0.2", "[::1]")


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def find_answers(port):
    """Return at which addresses the server is reached."""
    return [host for host in EVERYWHERE if answers(f"http://{host}:{port}/healthz")]


def answers(url):
    try:
        return requests.get(url, timeout=SECONDS).ok
    except requests.ConnectionError:
        return False


@needs_ipv6
def test_a_port_that_is_named_is_served_at_every_address(tmp_path, sqlite_url):
    """Of IPv4 and of IPv6, because others may come by either."""
    with Deployed(tmp_path / "deployed", sqlite_url) as server:
        assert find_answers(server.port) == list(EVERYWHERE)


@needs_ipv6
@pytest.mark.parametrize(("host", "address"), [("127.0.0.2", "127.0.0.2"), ("::1", "[::1]")])
def test_a_host_that_is_named_is_the_only_address(tmp_path, sqlite_url, host, address):
    """Of either kind."""
    with Deployed(tmp_path / "deployed", sqlite_url, HOST=host) as server:
        assert find_answers(server.port) == [address]


@pytest.mark.parametrize(
    ("host", "port", "addresses"),
    [
        (None, None, ["127.0.0.1:8000"]),
        ("10.0.0.1", None, ["10.0.0.1:8000"]),
        ("10.0.0.1", 80, ["10.0.0.1:80"]),
        ("::1", 80, ["[::1]:80"]),
        ("localhost", 80, ["localhost:80"]),
    ],
)
def test_without_a_port_it_is_this_machines_alone(host, port, addresses):
    """Unless a host is named."""
    assert find_addresses(host, port) == addresses


class WithoutIPv6(socket.socket):
    """A socket of a machine that was started without IPv6."""

    def __init__(self, family=socket.AF_INET, *args, **kwargs):
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        super().__init__(family, *args, **kwargs)


class ApartFromIPv4(socket.socket):
    """A socket of a machine where `net.ipv6.bindv6only` is set."""

    def getsockopt(self, *args):
        only = args == (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        return 1 if only else super().getsockopt(*args)


@pytest.mark.parametrize(
    ("kind", "addresses"),
    [
        (WithoutIPv6, ["0.0.0.0:80"]),
        pytest.param(ApartFromIPv4, ["[::]:80", "0.0.0.0:80"], marks=needs_ipv6),
    ],
)
def test_a_machine_of_another_kind(monkeypatch, kind, addresses):
    """Without IPv6 the service starts too, and if IPv4 is separate it listens on both."""
    monkeypatch.setattr("socket.socket", kind)
    assert find_addresses(None, 80) == addresses
