"""The commands `recoup keys …`."""

import secrets
from datetime import UTC, datetime
from uuid import UUID

import click

from recoup.auth.authenticator import API_KEY_PREFIX
from recoup.commands.group import Group, services
from recoup.database.expressions import clock
from recoup.database.models import Account, AccountApiKey

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
@click.option("--account", required=True, type=click.UUID, help="Whose key it will be.")
@click.option("--name", default="recoup keys create", help="What to call it.")
@click.option("--expires", type=_Instant(), help="When it ends, like 2027-01-31T00:00:00Z.")
def create_key(account: UUID, name: str, expires: datetime | None) -> None:
    """Make an API key, and print it on standard output.

    It is shown this once: the database keeps only its HMAC.
    """
    if not Account.select().where(Account.id == account).exists():
        raise click.ClickException(f"there is no account {account}")
    key = API_KEY_PREFIX + secrets.token_urlsafe(32)
    key_hash = services().authenticator.hash_key(key)
    made = AccountApiKey.create(name=name, account=account, key_hash=key_hash, expires_at=expires)
    click.echo(f"Key {made.id} of account {account}; it will not be shown again:", err=True)
    click.echo(key)


@keys.command("revoke")
@click.argument("key_id", type=click.UUID)
def revoke_key(key_id: UUID) -> None:
    """End the API key with the id KEY_ID, as `keys create` printed it, at once."""
    revoke = AccountApiKey.update(expires_at=clock()).where(AccountApiKey.id == key_id)
    if not revoke.execute():
        raise click.ClickException(f"there is no key {key_id}")
    click.echo(f"Key {key_id} is revoked.")
