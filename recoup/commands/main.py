"""The command `recoup`; the same commands are there under `flask`."""

import dataclasses
import secrets
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
import peewee
from flask import Flask, current_app
from flask.cli import AppGroup, FlaskGroup

from recoup import log
from recoup.auth.authenticator import API_KEY_PREFIX
from recoup.commands.reconcile import reconcile_tasks, restore_schedules
from recoup.config import Config
from recoup.database.connection import DatabaseFailed, execute
from recoup.deletion.staged import DeletionPending, DeletionRolledBack, DeletionUnfinished, TaskNotFound
from recoup.commands.doctor import doctor
from recoup.web.errors import FAILURES, describe
from recoup.database.migrations import upgrade
from recoup.database.models import Account, AccountApiKey
from recoup.deletion.recovery import recover_expired
from recoup.database.statements import count_marks


class _Group(AppGroup):
    """Commands whose failures are one line, and not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        # Under `flask` the app has been made; standard output is for what was asked for.
        log.configure(sys.stderr)
        try:
            return super().invoke(ctx)
        except (DatabaseFailed, peewee.PeeweeException) as error:
            hint = "; see `recoup doctor`"
            raise click.ClickException(f"the database failed: {_one_line(error)}{hint}") from error
        except TaskNotFound:
            raise click.ClickException("there is no such task; is it deleted already?") from None
        except (DeletionRolledBack, DeletionPending, DeletionUnfinished) as error:
            reason = _one_line(describe(error))
            raise click.ClickException(f"{FAILURES[type(error)]} ({reason})") from error


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


database_group = _Group("db", help="The database's tables.")
keys_group = _Group("keys", help="API keys.")
tasks_group = _Group("tasks", help="Tasks and their deletions.")
config_group = click.Group("config", help="The settings.")


@database_group.command("upgrade")
def upgrade_database() -> None:
    """Add the tables and indexes that are missing.

    Run it before each new version; it may run at any time, again, and on several machines at
    once. On Postgres nothing that is there is altered or dropped.
    """
    upgrade()
    click.echo("The database is up to date.")


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


@keys_group.command("create")
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
    key_hash = current_app.extensions["recoup"].authenticator.hash_key(key)
    made = AccountApiKey.create(name=name, account=account, key_hash=key_hash, expires_at=expires)
    click.echo(f"Key {made.id} of account {account}; it will not be shown again:", err=True)
    click.echo(key)


@keys_group.command("revoke")
@click.argument("key_id", type=click.UUID)
def revoke_key(key_id: UUID) -> None:
    """End the API key with the id KEY_ID, as `keys create` printed it, at once."""
    count = execute("UPDATE account_api_keys SET expires_at = {now} WHERE id = ?", str(key_id))
    if not count:
        raise click.ClickException(f"there is no key {key_id}")
    click.echo(f"Key {key_id} is revoked.")


@tasks_group.command("delete")
@click.argument("task_id", type=click.UUID)
def delete_task(task_id: UUID) -> None:
    """Delete a task and its schedule.

    The same deletion as the route's, but of any account's task.
    """
    with log.record("command", command="tasks delete") as notes:
        current_app.extensions["recoup"].deleter.delete(str(task_id), None)
    click.echo(f"Task {task_id} is deleted.")
    if notes["missing"]:
        click.echo("Trigger.dev knew no schedule of it; see `recoup tasks reconcile`.")


@tasks_group.command("recover")
def recover_tasks() -> None:
    """Complete deletions left in the middle.

    The service does so by itself about every 30 seconds; this is for not waiting. Exits with 1
    if any are left: those that could not be completed, and those that are under way.
    """
    completed = 0
    while any(found := recover_expired(current_app.extensions["recoup"].deleter)):
        deleted, standing = found
        completed += len(deleted)
        for task_id in deleted:
            click.echo(f"{task_id} deleted")
        for task_id in standing:
            click.echo(f"{task_id} could not be completed; it will be tried again")
    left, _ = count_marks()
    click.echo(f"{completed} completed, {left} left.")
    if left:
        sys.exit(1)


tasks_group.add_command(reconcile_tasks)
tasks_group.add_command(restore_schedules)


@config_group.command("check")
def check_config() -> None:
    """Show each setting, with secrets masked; exit with 1 if any is missing or wrong."""
    config = Config.load()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is not None and (not field.repr or field.name.endswith("_url")):
            value = _mask(field.name, value)
        click.echo(f"{field.name.upper()}={'' if value is None else value}")


def _mask(name: str, value: object) -> str:
    """Show of a URL all but the password and the options, of a secret only that it is there."""
    if not name.endswith("_url"):
        return "********"
    scheme, _, rest = str(value).partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    password = ":********" if colon else ""
    return f"{scheme}://{user}{password}{at}{place.partition('?')[0]}"


def init_app(app: Flask) -> None:
    """Put the commands under `flask`."""
    for command in _COMMANDS:
        app.cli.add_command(command)


_COMMANDS = (database_group, keys_group, tasks_group, config_group, doctor)


class _Recoup(FlaskGroup):
    """Knows its commands without the app, so that `--help` works before anything is set."""

    list_commands = click.Group.list_commands
    get_command = click.Group.get_command  # type: ignore[assignment]


def _load_app() -> Flask:
    # The factory registers these very commands.
    from recoup.app import create_app

    app = create_app()
    log.configure(sys.stderr)
    return app


main = _Recoup(
    name="recoup",
    create_app=_load_app,
    add_default_commands=False,
    add_version_option=False,
    help="""Operate the service that deletes tasks together with their schedules.

    \b
    To set it up:      config check, db upgrade, doctor, keys create
    Before a version:  db upgrade
    When paged:        doctor, tasks recover, tasks reconcile

    Settings come from the environment, over a .env in the current folder.
    """,
)
# Flask's `--app`, `--debug` and `--env-file`; the last looks for `.env` in the folders above too.
main.params.clear()
for _command in _COMMANDS:
    main.add_command(_command)
