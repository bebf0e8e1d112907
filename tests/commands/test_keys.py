"""The commands `recoup keys …`."""

import re
from datetime import UTC, datetime

import pytest

from tests.commands.programs import NOBODY, error_line
from tests.factories import delete, select_row


def created(result):
    """Return the key that was made, and its id."""
    assert result.exit_code == 0, result.output
    key = re.fullmatch(r"(recoup_sk_[\w-]{43})\n", result.stdout)[1]
    return key, re.search(r"Key (\S+) of account", result.stderr)[1]


def test_a_made_key_works(recoup, world, client):
    """The key on standard output deletes a task of its account."""
    account = world.account()
    key, _ = created(recoup("keys", "create", "--account", account))
    assert delete(client, world.task(account), key).status_code == 200


def test_only_the_hash_of_a_key_is_stored(recoup, world):
    """Whoever reads the database can't call us."""
    account = world.account()
    key, key_id = created(recoup("keys", "create", "--account", account, "--name", "CI"))
    row = select_row("account_api_keys", "id", key_id)
    assert key not in str(row)
    assert row["key_hash"] == world.authenticator.hash_key(key)
    assert (str(row["account"]), row["name"]) == (account, "CI")
    assert (row["expires_at"], row["last_used"]) == (None, None)


def test_two_made_keys_differ(recoup, world):
    """Each is a secret of its own."""
    account = world.account()
    keys = {created(recoup("keys", "create", "--account", account)) for _ in range(2)}
    assert len({key for key, _ in keys}) == len({key_id for _, key_id in keys}) == 2


@pytest.mark.parametrize(
    "text", ["2999-01-31T00:00:00Z", "2999-01-31T02:00:00+02:00", "2999-01-30 23:00-01:00"]
)
def test_a_key_expires_at_the_instant_that_was_given(recoup, world, client, text):
    """Whatever zone it is given in, and until then it works."""
    account = world.account()
    key, key_id = created(recoup("keys", "create", "--account", account, "--expires", text))
    stored = select_row("account_api_keys", "id", key_id)["expires_at"]
    if isinstance(stored, str):
        assert stored == "2999-01-31T00:00:00.000Z"
    else:
        assert stored == datetime(2999, 1, 31, tzinfo=UTC)
    assert delete(client, NOBODY, key).status_code == 404


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2999-01-31T00:00:00", "has no time zone"),
        ("2999-01-31", "has no time zone"),
        ("2020-01-31T00:00:00Z", "is in the past"),
        ("9999-12-31T23:59:59-23:59", "is too far in the future"),
        ("tomorrow", "is not a time like"),
        ("", "is not a time like"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(recoup, world, text, reason):
    """A key that never worked, or works for longer than was meant, is worse than none."""
    result = recoup("keys", "create", "--account", world.account(), "--expires", text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr.splitlines()[-1]


def test_no_key_is_made_for_an_unknown_account(recoup):
    """It would be of no use, and probably of a typing error."""
    result = recoup("keys", "create", "--account", NOBODY)
    assert error_line(result) == f"Error: there is no account {NOBODY}"
    assert select_row("account_api_keys", "account", NOBODY) is None


def test_a_revoked_key_is_refused(recoup, world, client):
    """At once, by the id that was printed with it; other keys go on."""
    account = world.account()
    task_id = world.task(account)
    other = world.key(account)
    key, key_id = created(recoup("keys", "create", "--account", account))
    assert recoup("keys", "revoke", key_id).stdout == f"Key {key_id} is revoked.\n"
    assert delete(client, task_id, key).status_code == 401
    assert delete(client, task_id, other).status_code == 200


def test_an_unknown_key_cannot_be_revoked(recoup):
    """The operator learns that the key they meant still works."""
    assert error_line(recoup("keys", "revoke", NOBODY)) == f"Error: there is no key {NOBODY}"
