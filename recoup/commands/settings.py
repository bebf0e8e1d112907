"""The command `recoup config check`."""

import dataclasses

import click

from recoup.config import Config, find_warnings, read_environment

settings = click.Group("config", help="The settings.")


@settings.command("check")
def check_config() -> None:
    """Show each setting, with secrets masked.

    It warns of names that look like a setting but are none. Exits with 1 if any setting is missing
    or wrong.
    """
    environ = read_environment()
    for warning in find_warnings(environ):
        click.echo(f"Warning: {warning}", err=True)
    config = Config.load(environ)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is not None and (not field.repr or field.name.endswith("_url")):
            value = _mask(field.name, value)
        click.echo(f"{field.name.upper()}={'' if value is None else value}")


def _mask(name: str, value: object) -> str:
    """Return a URL without its password and options; of a secret only that it is set."""
    if not name.endswith("_url"):
        return "********"
    scheme, _, rest = str(value).partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    password = ":********" if colon else ""
    return f"{scheme}://{user}{password}{at}{place.partition('?')[0]}"
