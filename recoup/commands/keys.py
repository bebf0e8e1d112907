"""The commands `recoup keys …`."""

import json
import secrets
import sys
from datetime import UTC, datetime
from uuid import UUID

import click

from recoup.auth.authenticator import API_KEY_PREFIX
from recoup.commands.group import Group, require_account, services
from recoup.commands.table import iso, table
from recoup.database.connection import database
from recoup.database.expressions import clock
from recoup.database.models import AccountApiKey
from recoup.database.statements import read_clock

keys = Group("keys", help="API keys.")


class _Instant(click.ParamType[datetime]):
    name = "instant"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time like 2027-01-31T00:00:00Z.", param, ctx)
        if instant.tzinfo is None:
            self.fail(f"{value!r} has no time zone; add Z for UTC.", param, ctx)
        if instant <= datetime.now(UTC):
            self.fail(f"{value!r} is in the past.", param, ctx)
        try:
            return instant.astimezone(UTC)
        except OverflowError:
            self.fail(f"{value!r} is too far in the future.", param, ctx)


@keys.command("create")
@click.option("--account", required=True, type=click.UUID, help="The account of the key.")
@click.option("--name", default="recoup keys create", help="A name for the key.")
@click.option("--expires", type=_Instant(), help="When it ends, like 2027-01-31T00:00:00Z.")
def create_key(account: UUID, name: str, expires: datetime | None) -> None:
    """Make an API key, and print it on standard output.

    It is shown only once: the database keeps only its HMAC.
    """
    if not sys.stdout:
        raise click.ClickException("standard output is closed, so nobody would see the key")
    require_account(account)
    key = API_KEY_PREFIX + secrets.token_urlsafe(32)
    key_hash = services().authenticator.hash_key(key)
    row = {"name": name, "account": account, "key_hash": key_hash, "expires_at": expires}
    with database.atomic():  # a key that can't be printed is not made: nobody would have it
        made = AccountApiKey.create(**row)
        click.echo(f"Key {made.id} of account {account}; it will not be shown again:", err=True)
        click.echo(key)


@keys.command("list")
@click.option("--account", required=True, type=click.UUID, help="The account of the keys.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_keys(account: UUID, as_json: bool) -> None:
    """List an account's API keys, the oldest first.

    `keys revoke` takes the ids. The keys themselves are not stored anywhere.
    """
    require_account(account)
    model = AccountApiKey
    found = list(model.select().where(model.account == account).order_by(model.created_at))
    if as_json:
        click.echo(json.dumps([_as_json(key) for key in found]))
        return
    now = read_clock()
    rows = (
        (str(key.id), f"{key.created_at:%Y-%m-%d}", _expiry(key, now), key.name) for key in found
    )
    click.echo("\n".join(table(("ID", "CREATED", "EXPIRES", "NAME"), *rows)))


def _as_json(key: AccountApiKey) -> dict[str, str | None]:
    return {
        "id": str(key.id),
        "name": key.name,
        "created_at": iso(key.created_at),
        "expires_at": key.expires_at and iso(key.expires_at),
    }


def _expiry(key: AccountApiKey, now: datetime) -> str:
    if key.expires_at is None:
        return "never"
    return "expired" if key.expires_at <= now else iso(key.expires_at)


@keys.command("revoke")
@click.argument("key_id", type=click.UUID)
def revoke_key(key_id: UUID) -> None:
    """End an API key at once.

    KEY_ID is the id that `keys create` and `keys list` print.
    """
    revoke = AccountApiKey.update(expires_at=clock()).where(AccountApiKey.id == key_id)
    if not revoke.execute():
        raise click.ClickException(f"there is no key {key_id}")
    click.echo(f"Key {key_id} is revoked.")
