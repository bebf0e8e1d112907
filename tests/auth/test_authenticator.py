"""Who is calling: API keys and Privy's tokens, and the answer if neither can be checked."""

import json
import sys
import time
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from recoup import log
from recoup.app import create_app
from recoup.auth.privy import Privy, PrivyFailed
from recoup.database.connection import execute, fetch, release
from recoup.http.client import BODY_LIMIT_BYTES, Client
from tests.conftest import make_config
from tests.factories import now
from tests.privy import (
    APP_ID,
    APP_SECRET,
    DID,
    PrivyStandIn,
    email,
    forge_token,
    google,
    make_claims,
    make_token,
    signing_key,
    verification_key,
)
from tests.sockets import answer_with, talker

# A caller that was let in is told that there is no such task: it asks for one that isn't.
NOBODYS_TASK = "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"
LET_IN = (404, {"status": "error", "error": "Task not found"})
NOT_LET_IN = (401, {"error": 401, "message": "Unauthorized"})
ONE_OF_TWO = "Exactly one of x-api-key or Authorization must be provided"
BEARER_REQUIRED = "Authorization header with Bearer token required"
NOT_CHECKED = "The token could not be checked; nothing was changed. Ask again."
DATABASE_FAILED = "The database failed; nothing was changed. Ask again."


@pytest.fixture(name="privy")
def _privy():
    with PrivyStandIn() as privy:
        yield privy


@pytest.fixture(name="settings")
def _settings(privy):
    """Settings of the app, beside the database and the stand-in; a test may have its own."""
    return {
        "PRIVY_APP_ID": APP_ID,
        "PRIVY_PROJECT_SECRET": APP_SECRET,
        "PRIVY_JWT_VERIFICATION_KEY": verification_key(),
        "PRIVY_API_URL": privy.url,
    }


@pytest.fixture(name="config")
def _config(database_url, standin, settings):
    return make_config(database_url, TRIGGER_API_URL=standin.url, **settings)


def ask(client, **headers):
    """Ask with these headers, `_` for `-`; return status and body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = f'{{"id": "{NOBODYS_TASK}"}}'
    response = client.delete("/api/tasks", data=body, headers=named)
    return response.status_code, response.json


def bearer(client, token):
    """Ask with *token* as Bearer."""
    return ask(client, Authorization=f"Bearer {token}")


def unauthorized(message):
    """Return the answer to a request without a usable credential."""
    return 401, {"error": 401, "message": message}


def failed(message):
    """Return the answer to a request whose credential nobody can check now."""
    return 500, {"status": "error", "error": message}


def set_expiry(text):
    """Let every key end at *text*, as another program may have written it."""
    execute("UPDATE account_api_keys SET expires_at = ?", text)
    release()


class TestApiKey:
    """A key counts in either header, as long as it is known and has not expired."""

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
    def test_it_may_come_in_either_header(self, client, world, scheme):
        """`x-api-key` and `Authorization: Bearer` are the same, and the scheme's case is free."""
        key = world.key(world.account())
        assert ask(client, x_api_key=key) == LET_IN
        assert ask(client, Authorization=f"{scheme} {key}") == LET_IN

    def test_an_empty_header_counts_as_none(self, client, world):
        """Some clients send a header that they have no value for."""
        key = world.key(world.account())
        assert ask(client, x_api_key=key, Authorization="") == LET_IN
        assert ask(client, x_api_key="", Authorization=f"Bearer {key}") == LET_IN

    def test_it_does_not_count_next_to_another_credential(self, client, world):
        """Both headers at once leave open who is asking, even with the same key in both."""
        key = world.key(world.account())
        answer = ask(client, x_api_key=key, Authorization=f"Bearer {key}")
        assert answer == unauthorized(ONE_OF_TWO)

    def test_it_has_to_be_whole(self, client, world):
        """A longer or shorter text is another key."""
        key = world.key(world.account())
        wrong = [key[:-1], key + "0", key.upper(), f"{key},{key}", f"{key}, {key}"]
        assert {ask(client, x_api_key=text)[0] for text in wrong} == {401}

    def test_what_is_stored_is_no_key(self, client, world):
        """Who reads the database can't call with what is written there."""
        key = world.key(world.account())
        stored = world.authenticator.hash_key(key)
        assert ask(client, x_api_key=stored) == NOT_LET_IN

    def test_it_ends_when_its_time_has_come(self, client, world):
        """A key is valid until its `expires_at`, and not after."""
        account = world.account()
        over = world.key(account, expires_at=now() - timedelta(seconds=1))
        valid = world.key(account, expires_at=now() + timedelta(hours=1))
        assert ask(client, x_api_key=over) == NOT_LET_IN
        assert ask(client, x_api_key=valid) == LET_IN

    def test_without_an_account_it_is_nobodys(self, client, world):
        """A row whose account is null lets nobody in."""
        assert ask(client, x_api_key=world.key(None)) == NOT_LET_IN

    def test_a_row_without_a_hash_is_no_key(self, client, world):
        """Null equals nothing, least of all an empty credential."""
        world.key(world.account())
        execute("UPDATE account_api_keys SET key_hash = NULL")
        release()
        assert ask(client, x_api_key="None") == NOT_LET_IN
        assert ask(client, x_api_key="") == unauthorized(ONE_OF_TWO)

    @pytest.mark.parametrize(
        ("text", "answer"),
        [
            ("2999-01-01T00:00:00+05:00", LET_IN),
            ("2999-01-01 00:00:00.123456+00:00", LET_IN),
            ("2999-01-01T00:00:00Z", LET_IN),
            ("2020-01-01 00:00:00+00", NOT_LET_IN),
            ("2020-01-01T00:00:00-05:00", NOT_LET_IN),
        ],
    )
    def test_its_end_may_be_written_by_another_program(self, client, world, text, answer):
        """Any ISO 8601 instant is understood, with the offset of whoever wrote it."""
        key = world.key(world.account())
        set_expiry(text)
        assert ask(client, x_api_key=key) == answer

    @pytest.mark.parametrize(("hours", "answer"), [(-1, NOT_LET_IN), (1, LET_IN)])
    @pytest.mark.parametrize("offset", [-11, 0, 14])
    def test_the_offset_of_its_end_counts(self, client, world, hours, answer, offset):
        """An instant is compared as the moment that it is, and not as it reads."""
        key = world.key(world.account())
        local = now() + timedelta(hours=hours + offset)
        set_expiry(f"{local:%Y-%m-%dT%H:%M:%S}{offset:+03d}:00")
        assert ask(client, x_api_key=key) == answer

    def test_a_database_that_fails_is_no_401(self, client, world):
        """A key that can't be looked up is not refused: nobody knows whether it is good."""
        key = world.key(world.account())
        execute("ALTER TABLE account_api_keys RENAME TO renamed")
        release()
        assert ask(client, x_api_key=key) == failed(DATABASE_FAILED)
        assert ask(client, Authorization=f"Bearer {key}") == failed(DATABASE_FAILED)


class TestNoCredential:
    """What isn't a credential is answered 401, with what is wrong where that can be told."""

    @pytest.mark.parametrize("headers", [{}, {"x-api-key": ""}, {"Authorization": ""}])
    def test_none_at_all(self, client, headers):
        """Without a credential the caller is told of both headers."""
        assert ask(client, **headers) == unauthorized(ONE_OF_TWO)

    @pytest.mark.parametrize(
        "value", ["Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "recoup_sk_x", "Token x", "Bearerx y"]
    )
    def test_authorization_without_a_bearer_token(self, client, value):
        """Other schemes are not ours."""
        assert ask(client, Authorization=value) == unauthorized(BEARER_REQUIRED)

    @pytest.mark.parametrize("key", ["recoup_sk_unknown", "x", "\\", "'; --", "x" * 8000])
    def test_an_unknown_key(self, client, key):
        """A key that isn't there is unauthorized, whatever it looks like."""
        assert ask(client, x_api_key=key) == NOT_LET_IN

    @pytest.mark.parametrize("junk", ["\xff\xfe\xe9", "recoup_sk_\xe9", "\x80", "\x00", "\xa0"])
    @pytest.mark.parametrize("header", ["HTTP_X_API_KEY", "HTTP_AUTHORIZATION"])
    def test_bytes_that_are_not_ascii(self, client, header, junk):
        """Servers hand header bytes on as Latin-1, and none of them is an error of ours."""
        value = f"Bearer {junk}" if header == "HTTP_AUTHORIZATION" else junk
        body = f'{{"id": "{NOBODYS_TASK}"}}'
        answer = client.delete("/api/tasks", data=body, environ_overrides={header: value})
        assert answer.status_code == 401


class TestPrivyToken:
    """A token of our Privy app's stands for the account of its user's e-mail address."""

    def test_it_is_the_account_of_its_users_address(self, client, world, privy):
        """The address was proved to Privy by e-mail."""
        owner = world.account(email="owner@example.com")
        task = world.task(owner)
        privy.users[DID] = [{"type": "wallet"}, email("owner@example.com")]
        headers = {"Authorization": f"Bearer {make_token()}"}
        answer = client.delete("/api/tasks", data=f'{{"id": "{task}"}}', headers=headers)
        assert answer.json == {"status": "success"}
        assert world.schedule_ids(task) == []

    def test_of_two_addresses_the_first_counts(self, client, world, privy):
        """As Recoup's own API has it: the second may be a colleague's."""
        owner = world.account(email="first@example.com")
        colleague = world.account(email="second@example.com")
        privy.users[DID] = [email("first@example.com"), email("second@example.com")]
        tasks = [world.task(account) for account in (colleague, owner)]
        headers = {"Authorization": f"Bearer {make_token()}"}
        statuses = [
            client.delete("/api/tasks", data=f'{{"id": "{task}"}}', headers=headers).status_code
            for task in tasks
        ]
        assert statuses == [403, 200]

    def test_a_first_address_that_is_unknown_is_nobodys(self, client, world, privy):
        """Whatever comes after it."""
        world.account(email="second@example.com")
        privy.users[DID] = [email("first@example.com"), email("second@example.com")]
        assert bearer(client, make_token()) == NOT_LET_IN

    def test_it_is_nobody_elses_account(self, client, world, privy):
        """A stranger with a good token is a stranger."""
        world.account(email="stranger@example.com")
        privy.users[DID] = [email("stranger@example.com")]
        task = world.task(world.account(email="owner@example.com"))
        headers = {"Authorization": f"Bearer {make_token()}"}
        answer = client.delete("/api/tasks", data=f'{{"id": "{task}"}}', headers=headers)
        assert answer.json == {"error": 403, "message": "Access denied to this task"}

    @pytest.mark.parametrize(
        "linked_accounts",
        [
            pytest.param([email("unknown@example.com")], id="unknown address"),
            pytest.param([{"type": "wallet", "address": "owner@example.com"}], id="no address"),
            pytest.param([google("owner@example.com")], id="a Google account"),
            pytest.param([{"type": "apple_oauth", "email": "owner@example.com"}], id="another way"),
            pytest.param([], id="nothing"),
        ],
    )
    def test_without_a_known_address_it_is_nobodys(self, client, world, privy, linked_accounts):
        """An account is never made for a token, and only proved addresses count."""
        world.account(email="owner@example.com")
        privy.users[DID] = linked_accounts
        assert bearer(client, make_token()) == NOT_LET_IN
        assert fetch("SELECT COUNT(*) FROM accounts") == [(1,)]
        release()

    def test_a_user_that_privy_no_longer_knows_is_nobody(self, client, world, privy):
        """A token may outlive its user."""
        world.account(email="owner@example.com")
        assert bearer(client, make_token()) == NOT_LET_IN
        assert len(privy.paths) == 1

    def test_its_did_is_percent_encoded(self, client, privy):
        """A subject stays one part of the path, whatever it holds."""
        bearer(client, make_token(sub="did:privy:a/../b?c#d"))
        assert privy.paths == ["/v1/users/did%3Aprivy%3Aa%2F..%2Fb%3Fc%23d"]

    def test_it_may_be_a_few_seconds_fast_or_slow(self, client, world, privy):
        """Clocks differ: a token is taken within ten seconds of its times."""
        world.account(email="owner@example.com")
        privy.users[DID] = [email("owner@example.com")]
        moment = int(time.time())
        assert bearer(client, make_token(iat=moment + 5)) == LET_IN
        assert bearer(client, make_token(exp=moment - 2)) == LET_IN

    def test_it_does_not_count_as_an_api_key(self, client, world, privy):
        """In `x-api-key` only an API key is one."""
        world.account(email="owner@example.com")
        privy.users[DID] = [email("owner@example.com")]
        assert ask(client, x_api_key=make_token()) == NOT_LET_IN
        assert privy.paths == []

    @pytest.mark.parametrize("settings", [{}])
    def test_without_privy_in_the_settings_it_is_nobodys(self, client, world, privy, settings):
        """A service that serves API keys only turns tokens away."""
        world.account(email="owner@example.com")
        assert bearer(client, make_token()) == NOT_LET_IN
        assert privy.paths == []

    def test_a_database_that_fails_is_no_401(self, client, world, privy):
        """An account that can't be looked up is not missing."""
        privy.users[DID] = [email("owner@example.com")]
        execute("ALTER TABLE account_emails RENAME TO renamed")
        release()
        assert bearer(client, make_token()) == failed(DATABASE_FAILED)


PUBLIC_KEY_PEM = verification_key()
HOUR = 3600


@pytest.fixture(name="sqlite_client")
def _sqlite_client(sqlite_url, standin, settings):
    """A client of an app on SQLite, for what no database can make different."""
    config = make_config(sqlite_url, TRIGGER_API_URL=standin.url, **settings)
    return create_app(config).test_client()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: make_token(exp=int(time.time()) - 60), id="expired"),
        pytest.param(lambda: make_token(exp=None), id="never expires"),
        pytest.param(lambda: make_token(iat=None), id="no time of issue"),
        pytest.param(lambda: make_token(iat=int(time.time()) + HOUR), id="from the future"),
        pytest.param(lambda: make_token(nbf=int(time.time()) + HOUR), id="not valid yet"),
        pytest.param(lambda: make_token(aud="another-app"), id="another app's"),
        pytest.param(lambda: make_token(aud=None), id="no app's"),
        pytest.param(lambda: make_token(iss="privy.example"), id="another issuer's"),
        pytest.param(lambda: make_token(iss=None), id="no issuer's"),
        pytest.param(lambda: make_token(sub=None), id="no subject"),
        pytest.param(lambda: make_token(generate_private_key(SECP256R1())), id="another key"),
        pytest.param(lambda: forge_token("HS256", PUBLIC_KEY_PEM), id="HS256 with the PEM"),
        pytest.param(lambda: forge_token("HS256", APP_SECRET), id="HS256 with the app secret"),
        pytest.param(lambda: forge_token("none"), id="alg none"),
        pytest.param(lambda: forge_token("None"), id="alg None"),
        pytest.param(lambda: forge_token("ES256"), id="no signature"),
        pytest.param(lambda: make_token().rpartition(".")[0], id="two parts"),
        pytest.param(lambda: make_token()[:-8], id="cut off"),
        pytest.param(lambda: make_token() + ".x", id="four parts"),
        pytest.param(lambda: "x", id="a word"),
        pytest.param(lambda: "..", id="dots"),
        pytest.param(lambda: "W1tbW1tb" * 900 + ".e30.AAAA", id="a header of brackets"),
    ],
)
def test_a_bad_token_is_unauthorized_and_privy_is_not_asked(sqlite_client, privy, make):
    """A token that our app's key can't verify is refused without a network call."""
    privy.users[DID] = [email("owner@example.com")]
    assert bearer(sqlite_client, make()) == NOT_LET_IN
    assert privy.paths == []


def test_the_claims_of_the_bad_tokens_are_good(sqlite_client, privy):
    """Each token above has only one flaw: without it Privy is asked."""
    assert bearer(sqlite_client, make_token()) == NOT_LET_IN
    assert len(privy.paths) == 1
    assert make_claims()["aud"] == APP_ID


@pytest.mark.parametrize(
    "answer",
    [
        (500, b'{"error": "words of Privy"}'),
        (401, b'{"error": "Invalid app ID or app secret."}'),
        (403, b'{"linked_accounts": []}'),
        (429, b'{"error": "Too many requests"}'),
        (204, b""),
        (302, b""),
        (200, b"<html>words of Privy</html>"),
        (200, b""),
        (200, b"\xff\xfe"),
        (200, b"[]"),
        (200, b"null"),
        (200, b'"x"'),
        (200, b"{}"),
        (200, b'{"linked_accounts": null}'),
        (200, b'{"linked_accounts": 5}'),
        (200, b'{"linked_accounts": ["x"]}'),
        (200, b'{"linked_accounts": [{}]}'),
        (200, b'{"linked_accounts": [{"type": []}]}'),
        (200, b'{"linked_accounts": [{"type": "email"}]}'),
        (200, b"[" * 60_000),
        (200, b'{"linked_accounts": [' + b" " * BODY_LIMIT_BYTES + b"]}"),
    ],
)
def test_an_unusable_answer_of_privys_is_no_401(sqlite_client, privy, answer):
    """A token that can't be checked is not refused, and Privy's words stay with us."""
    privy.answer = answer
    assert bearer(sqlite_client, make_token()) == failed(NOT_CHECKED)


@pytest.mark.parametrize("address", [None, 5, True, [], {}])
def test_an_address_that_is_no_text_is_unusable(sqlite_client, privy, address):
    """What isn't an e-mail address never reaches the database."""
    privy.users[DID] = [email(address)]
    assert bearer(sqlite_client, make_token()) == failed(NOT_CHECKED)


def test_a_privy_that_refuses_connections_is_no_401(sqlite_client, privy):
    """A token that can't be checked is not refused."""
    privy.stop()
    assert bearer(sqlite_client, make_token()) == failed(NOT_CHECKED)


def test_a_privy_that_hangs_is_given_up(sqlite_client, privy, monkeypatch):
    """Nobody waits for Privy for longer than a few seconds."""
    monkeypatch.setattr("recoup.auth.privy.LOOKUP_SECONDS", 0.3)
    privy.hang_seconds = 30
    started = time.monotonic()
    assert bearer(sqlite_client, make_token()) == failed(NOT_CHECKED)
    assert time.monotonic() - started < 10


def test_a_page_that_is_not_privys_is_no_unknown_user(sqlite_client, privy):
    """At a wrong address everything is a 404, and no caller's fault."""
    privy.answer = (404, b"<html>Not Found</html>")
    assert bearer(sqlite_client, make_token()) == failed(NOT_CHECKED)


def test_a_connection_that_privy_gave_up_costs_no_token():
    """It may hang up just as the kept connection is used again."""
    user = json.dumps({"linked_accounts": [email("a@example.com")]}).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(user), user)

    def answer_once(connection):
        answer_with(answer)(connection)
        connection.recv(65536)  # the second request, which gets no answer

    with talker(answer_once) as (host, port):
        asked = Privy(APP_ID, "secret", signing_key().public_key(), f"http://{host}:{port}")
        assert [asked.email(make_token()) for _ in range(3)] == ["a@example.com"] * 3


def test_privy_has_its_time_once(monkeypatch):
    """However the first try ended, the second one has what is left."""
    given, send = [], Client.send

    def slow(client, method, path, seconds):
        given.append(seconds)
        time.sleep(0.2)
        return send(client, method, path, seconds)

    monkeypatch.setattr(Client, "send", slow)
    with pytest.raises(PrivyFailed, match="no connection"):
        Privy(APP_ID, "secret", signing_key().public_key(), "http://127.0.0.1:1").email(
            make_token()
        )
    first, second = given
    assert second <= first - 0.2


def test_our_secret_is_what_privy_knows_us_by(sqlite_url, standin, privy):
    """With another app secret Privy refuses *us*, which is not the caller's fault."""
    settings = {"PRIVY_APP_ID": APP_ID, "PRIVY_JWT_VERIFICATION_KEY": PUBLIC_KEY_PEM}
    settings |= {"PRIVY_PROJECT_SECRET": "another", "PRIVY_API_URL": privy.url}
    client = create_app(make_config(sqlite_url, **settings)).test_client()
    assert bearer(client, make_token()) == failed(NOT_CHECKED)


class TestWhy:
    """The log says why a caller was not let in, and the caller doesn't learn it."""

    @pytest.fixture(name="why")
    def _why(self, client, capsys):
        def ask(headers):
            log.configure(sys.stdout)
            answer = client.delete(
                "/api/tasks", data=f'{{"id": "{NOBODYS_TASK}"}}', headers=headers
            )
            line = json.loads(capsys.readouterr().out.splitlines()[-1])
            assert (answer.status_code, line["status"], line["task"]) == (401, 401, NOBODYS_TASK)
            assert line["reason"] not in answer.text
            return line["reason"]

        return ask

    def test_keys(self, why, world):
        """An id of the key is there as soon as it is known."""
        expired = world.key(world.account(), expires_at=now() - timedelta(hours=1))
        assert why({"x-api-key": "recoup_sk_unknown"}) == "unknown key"
        assert why({"x-api-key": expired}) == "expired key"

    def test_headers(self, why):
        """None, two, and one that is of another scheme."""
        assert why({}) == "no credential"
        assert why({"x-api-key": "x", "Authorization": "Bearer y"}) == "both headers"
        assert why({"Authorization": "Basic x"}) == "no bearer token"

    def test_tokens(self, why, world, privy):
        """Whose fault it is can be told apart."""
        stranger = generate_private_key(SECP256R1())

        def bearer_of(token):
            return {"Authorization": f"Bearer {token}"}

        assert why(bearer_of(make_token(exp=1))) == "expired token"
        assert why(bearer_of(make_token(stranger))) == "bad signature"
        assert why(bearer_of(make_token(aud="another"))) == "not a token of this app"
        assert why(bearer_of(make_token())) == "unknown user"
        privy.users[DID] = []
        assert why(bearer_of(make_token())) == "a user without an e-mail address"
        privy.users[DID] = [email("unknown@example.com")]
        assert why(bearer_of(make_token())) == "unknown e-mail address"

    def test_a_privy_that_can_not_be_asked(self, client, capsys, privy):
        """In our words: none of Privy's, and none of an HTTP library's."""

        def error():
            log.configure(sys.stdout)
            assert bearer(client, make_token()) == failed(NOT_CHECKED)
            return json.loads(capsys.readouterr().out.splitlines()[-1])["error"]

        privy.answer = (200, b'{"linked_accounts": 5}')
        assert error() == "PrivyFailed: Privy did not answer with a user"
        privy.answer = (503, b"")
        assert error() == "PrivyFailed: Privy answered 503"
        privy.stop()
        assert error() == "PrivyFailed: no connection"
