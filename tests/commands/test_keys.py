"""The commands `recoup keys …`."""

import json
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


# recoup keys list


def listed(recoup, account):
    """Return the cells of each line of the table."""
    result = recoup("keys", "list", "--account", account)
    assert (result.exit_code, result.stderr) == (0, "")
    return [re.split("  +", line) for line in result.stdout.splitlines()]


def test_the_keys_of_an_account_are_listed(recoup, world):
    """The oldest first, with id, day of creation, end and name; other accounts' are not."""
    account = world.account()
    _, forever = created(recoup("keys", "create", "--account", account, "--name", "CI"))
    ends = ("--expires", "2999-01-31T02:00:00+02:00")
    _, bounded = created(recoup("keys", "create", "--account", account, *ends))
    _, revoked = created(recoup("keys", "create", "--account", account))
    recoup("keys", "revoke", revoked)
    world.key(world.account())
    heading, *lines = listed(recoup, account)
    assert heading == ["ID", "CREATED", "EXPIRES", "NAME"]
    days = [line.pop(1) for line in lines]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", day) for day in days)
    assert lines == [
        [forever, "never", "CI"],
        [bounded, "2999-01-31T00:00:00Z", "recoup keys create"],
        [revoked, "expired", "recoup keys create"],
    ]


def test_a_list_as_json_has_the_same(recoup, world):
    """One list on one line, with instants in whole."""
    account = world.account()
    ends = "2999-01-31T00:00:00Z"
    _, forever = created(recoup("keys", "create", "--account", account, "--name", "CI"))
    _, bounded = created(recoup("keys", "create", "--account", account, "--expires", ends))
    result = recoup("keys", "list", "--account", account, "--json")
    [line] = result.stdout.splitlines()
    found = json.loads(line)
    assert all(re.fullmatch(r"[\dT:-]{19}Z", key.pop("created_at")) for key in found)
    assert found == [
        {"id": forever, "name": "CI", "expires_at": None},
        {"id": bounded, "name": "recoup keys create", "expires_at": ends},
    ]


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_list_holds_neither_key_nor_hash(recoup, world, as_json):
    """It may be pasted into an issue."""
    account = world.account()
    key, _ = created(recoup("keys", "create", "--account", account))
    output = recoup("keys", "list", "--account", account, *as_json).output
    assert key not in output
    assert world.authenticator.hash_key(key) not in output


def test_a_name_cannot_draw_on_the_terminal(recoup, world):
    """Other programs name keys too; letters of any language stay as they are."""
    account = world.account()
    recoup("keys", "create", "--account", account, "--name", "Zoë\x1b[31m\nred")
    assert listed(recoup, account)[1][-1] == r"Zoë\x1b[31m\nred"


def test_an_account_without_keys_has_an_empty_list(recoup, world):
    """Which is no error."""
    account = world.account()
    assert listed(recoup, account) == [["ID", "CREATED", "EXPIRES", "NAME"]]
    assert recoup("keys", "list", "--account", account, "--json").stdout == "[]\n"


def test_the_keys_of_an_unknown_account_are_none_to_list(recoup):
    """It is probably a typing error."""
    result = recoup("keys", "list", "--account", NOBODY)
    assert error_line(result) == f"Error: there is no account {NOBODY}"
