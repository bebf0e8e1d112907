"""A stand-in, and what speaks to it."""

from collections.abc import Callable, Iterator

import pytest
import requests

from recoup.demo.standin import StandIn


@pytest.fixture
def trigger() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def call(trigger: StandIn) -> Iterator[Callable[..., requests.Response]]:
    """Send a request below the schedules' path: ``call("GET", "/sched_x")``."""
    with requests.Session() as session:
        session.headers["authorization"] = f"Bearer {trigger.secret_key}"

        def send(method: str, path: str = "", **options) -> requests.Response:
            options = {"timeout": 5, "allow_redirects": False, **options}
            return session.request(method, f"{trigger.url}/api/v1/schedules{path}", **options)

        yield send
