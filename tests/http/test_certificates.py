"""The settings name the authorities that Trigger.dev and Privy are trusted by."""

import pytest
import requests

from recoup.app import create_app
from recoup.config import CA_VARIABLES
from recoup.http.client import Client
from tests.conftest import make_config
from tests.factories import World
from tests.privy import (
    APP_ID,
    APP_SECRET,
    DID,
    PrivyStandIn,
    email,
    make_token,
    verification_key,
)
from tests.sockets import encrypt, make_certificate


@pytest.fixture
def certificate(tmp_path):
    """A certificate that no usual authority has signed."""
    return make_certificate(tmp_path)


@pytest.mark.parametrize("name", CA_VARIABLES)
def test_trigger_is_trusted_by_the_file_that_is_named(sqlite_url, standin, certificate, name):
    """Whichever variable names it."""
    url = encrypt(standin, certificate)
    app = create_app(make_config(sqlite_url, TRIGGER_API_URL=url, **{name: str(certificate)}))
    world = World(app, standin)
    account = world.account()
    task_id = world.task(account)
    headers = {"x-api-key": world.key(account)}
    answer = app.test_client().delete("/api/tasks", json={"id": task_id}, headers=headers)
    assert (answer.status_code, standin.schedules) == (200, {})


def test_privy_is_trusted_by_the_file_that_is_named(sqlite_url, standin, certificate):
    """It is for all that is called."""
    with PrivyStandIn() as privy:
        settings = {
            "PRIVY_APP_ID": APP_ID,
            "PRIVY_PROJECT_SECRET": APP_SECRET,
            "PRIVY_JWT_VERIFICATION_KEY": verification_key(),
            "PRIVY_API_URL": encrypt(privy, certificate),
            "REQUESTS_CA_BUNDLE": str(certificate),
        }
        app = create_app(make_config(sqlite_url, TRIGGER_API_URL=standin.url, **settings))
        world = World(app, standin)
        task_id = world.task(world.account(email="a@example.com"))
        privy.users[DID] = [email("a@example.com")]
        headers = {"Authorization": f"Bearer {make_token()}"}
        answer = app.test_client().delete("/api/tasks", json={"id": task_id}, headers=headers)
    assert answer.status_code == 200


def test_without_it_neither_is_trusted(sqlite_url, standin, certificate, monkeypatch):
    """The process's environment is not used in addition to the settings."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    url = encrypt(standin, certificate)
    app = create_app(make_config(sqlite_url, TRIGGER_API_URL=url))
    world = World(app, standin)
    account = world.account()
    task_id = world.task(account)
    headers = {"x-api-key": world.key(account)}
    answer = app.test_client().delete("/api/tasks", json={"id": task_id}, headers=headers)
    assert answer.status_code == 500
    assert world.mark(task_id) is None
    assert list(standin.schedules)


def test_a_file_that_has_gone_since_the_start_is_a_failed_call(standin, certificate):
    """As any that is not made; nothing is sent."""
    client = Client(encrypt(standin, certificate), ca_bundle=str(certificate))
    certificate.unlink()
    with pytest.raises(requests.exceptions.SSLError, match="invalid path"):
        client.send("GET", "/", 5)
