"""Settings: read once from the environment, checked together, then frozen.

Every setting is one line of `Config`. `.env.example` and `docs/settings.md` describe them for
people. A variable that is set but empty counts as unset.

It uses nothing else of `recoup`. Begin with `Config`; `kinds.py` reads one value, and `mistakes.py`
finds what can't be together.
"""

import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from io import StringIO
from typing import Annotated, Any, cast
from uuid import UUID

import click
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from dotenv import dotenv_values
from dotenv.parser import parse_stream
from marshmallow import EXCLUDE, Schema, ValidationError, validates_schema
from marshmallow.fields import Field

from recoup.config import kinds, mistakes

DEFAULT_DATABASE_URL = "sqlite:///instance/recoup.sqlite3"
# The first with `ON CONFLICT … DO NOTHING`, the newest feature that is used.
OLDEST_SQLITE = (3, 24, 0)
# The prefix of each environment's secret keys.
TRIGGER_ENVIRONMENTS = {
    "dev": "tr_dev_",
    "staging": "tr_stg_",
    "prod": "tr_prod_",
    "preview": "tr_preview_",
}
# The first that is set counts, as in requests; the last is OpenSSL's.
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


class ConfigError(click.ClickException):
    """The configuration is not usable; the message has a line for every problem.

    It is a click exception, so that each command, and `flask run` too, shows only the message.
    """

    def __init__(self, problems: dict[str, list[str]]) -> None:
        self.problems = problems
        lines = [f"  {name}: {' '.join(texts)}" for name, texts in sorted(problems.items())]
        super().__init__("the configuration is not usable:\n" + "\n".join(lines))


@dataclass(frozen=True)
class Config:
    """The settings of one process, under their environment names in lower case."""

    database_url: Annotated[str, kinds.database_url(DEFAULT_DATABASE_URL)] = field(repr=False)
    database_pool_size: Annotated[int, kinds.number(5, 1, 1000)]
    database_prepare: Annotated[str, kinds.choice("auto", "on", "off", default="auto")]
    trigger_secret_key: Annotated[str, kinds.secret()] = field(repr=False)
    trigger_environment: Annotated[str | None, kinds.choice(*TRIGGER_ENVIRONMENTS)]
    trigger_api_url: Annotated[str, kinds.base_url("https://api.trigger.dev")]
    trigger_deadline_seconds: Annotated[float, kinds.seconds(8.0, 1, 60)]
    trigger_proxy_url: Annotated[str | None, kinds.proxy_url()] = field(repr=False)
    trigger_task_identifier: Annotated[str, kinds.word("customer-prompt-task")]
    trigger_preview_branch: Annotated[str | None, kinds.word()]
    trigger_trust_missing: Annotated[bool, kinds.switch(False)]
    privy_project_secret: Annotated[str, kinds.secret()] = field(repr=False)
    privy_app_id: Annotated[str | None, kinds.word()]
    privy_jwt_verification_key: Annotated[
        EllipticCurvePublicKey | None, kinds.PublicKey(load_default=None)
    ] = field(repr=False)
    privy_api_url: Annotated[str, kinds.base_url("https://api.privy.io")]
    requests_ca_bundle: Annotated[str | None, kinds.certificates()]
    curl_ca_bundle: Annotated[str | None, kinds.certificates()]
    ssl_cert_file: Annotated[str | None, kinds.certificates()]
    recoup_org_id: Annotated[UUID | None, kinds.uuid()]
    web_concurrency: Annotated[int, kinds.number(2, 1, 64)]
    web_threads: Annotated[int, kinds.number(64, 2, 1024)]
    host: Annotated[str | None, kinds.host()]
    port: Annotated[int | None, kinds.number(None, 1, 65535)]

    @classmethod
    def load(cls, environ: Mapping[str, str | None] | None = None) -> "Config":
        """Read `environ`; by default the process's environment, and `.env` for what is not there.

        Raises:
            ConfigError: naming every variable that is missing or wrong.
        """
        if environ is None:
            environ = read_environment()
        present = {name: value for name, value in environ.items() if value}
        problems, values = _check(present)
        problems |= mistakes.find_problems(present, SETTINGS)
        if problems:
            raise ConfigError(problems | mistakes.find_misspelt(present, SETTINGS, problems))
        return cls(**{name.lower(): value for name, value in values.items()})

    @property
    def trigger_key_environment(self) -> str | None:
        """The secret key's environment in `TRIGGER_ENVIRONMENTS`, by its prefix; None: unknown."""
        prefixes = TRIGGER_ENVIRONMENTS.items()
        return next((n for n, p in prefixes if self.trigger_secret_key.startswith(p)), None)

    @property
    def ca_variable(self) -> str | None:
        """The one of `CA_VARIABLES` that counts; None: none is set."""
        return next((name for name in CA_VARIABLES if getattr(self, name.lower())), None)

    @property
    def ca_bundle(self) -> str | None:
        """The file of trusted certificate authorities; None: the usual ones."""
        return self.ca_variable and getattr(self, self.ca_variable.lower())


class _Relations(Schema):
    """Rules between settings; those of single settings are in `Config`."""

    @validates_schema(skip_on_field_errors=False)
    def _check_sqlite(self, data: dict[str, Any], **kwargs: Any) -> None:
        used = data.get("DATABASE_URL", "").startswith("sqlite:")
        if used and sqlite3.sqlite_version_info < OLDEST_SQLITE:
            text = f"needs SQLite 3.24 or newer; this is {sqlite3.sqlite_version}."
            raise ValidationError(text, "DATABASE_URL")

    @validates_schema(skip_on_field_errors=False)
    def _check_privy(self, data: dict[str, Any], **kwargs: Any) -> None:
        pair = ("PRIVY_APP_ID", "PRIVY_JWT_VERIFICATION_KEY")
        missing = [name for name in pair if name in data and data[name] is None]
        if len(missing) == 1:
            raise ValidationError("is required when its partner is set.", missing[0])

    @validates_schema(skip_on_field_errors=False)
    def _check_branch(self, data: dict[str, Any], **kwargs: Any) -> None:
        preview = data.get("TRIGGER_SECRET_KEY", "").startswith(TRIGGER_ENVIRONMENTS["preview"])
        if preview and data.get("TRIGGER_PREVIEW_BRANCH", "wrong") is None:
            text = "is required with a preview key (tr_preview_…): the branch of the environment."
            raise ValidationError(text, "TRIGGER_PREVIEW_BRANCH")


# The kind of each setting, by its name in the environment.
SETTINGS: dict[str, Field[Any]] = {
    setting.name.upper(): cast(Any, setting.type).__metadata__[0] for setting in fields(Config)
}
_Settings = _Relations.from_dict(SETTINGS)


def _check(present: dict[str, str]) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Return the problems of the values, or, without any, the values in their types."""
    try:
        return {}, _Settings(unknown=EXCLUDE).load(present)
    except ValidationError as error:
        return cast(dict[str, list[str]], error.messages), {}


def find_warnings(environ: Mapping[str, str | None]) -> list[str]:
    """Return a sentence for each name that looks like a setting but is none."""
    return list(mistakes.find_warnings(environ, SETTINGS))


def read_environment() -> dict[str, str | None]:
    """Return the process's environment, and `.env` of the current folder for what is not there.

    Raises:
        ConfigError: `.env`, or a line of it, can't be read.
    """
    try:
        with open(".env", encoding="utf-8-sig") as file:
            text = file.read()
    except FileNotFoundError:
        return dict(os.environ)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError({".env": [f"can't be read: {error}."]}) from None
    # python-dotenv itself ignores such a line.
    wrong = [
        f"line {b.original.line} can't be read." for b in parse_stream(StringIO(text)) if b.error
    ]
    if wrong:
        raise ConfigError({".env": wrong})
    return {**dotenv_values(stream=StringIO(text), interpolate=False), **os.environ}
