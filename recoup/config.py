"""Settings: read once from the environment, checked together, then frozen.

Every setting is declared in `_Settings`; `.env.example` and the README's table describe them
for people. A variable that is set but empty counts as unset.
"""

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

import click
import psycopg
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from dotenv import dotenv_values
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema
from psycopg.conninfo import conninfo_to_dict

DEFAULT_DATABASE_URL = "sqlite:///instance/recoup.sqlite3"
# With what a secret key of each begins.
TRIGGER_ENVIRONMENTS = {
    "dev": "tr_dev_",
    "staging": "tr_stg_",
    "prod": "tr_prod_",
    "preview": "tr_preview_",
}


class ConfigError(click.ClickException):
    """The environment can't be served with; the message names every problem, one a line.

    A click exception, so that each command, `flask run` included, shows just the message.
    """

    def __init__(self, problems: dict[str, list[str]]) -> None:
        self.problems = problems
        lines = [f"  {name}: {' '.join(texts)}" for name, texts in sorted(problems.items())]
        super().__init__("the configuration is not usable:\n" + "\n".join(lines))


@dataclass(frozen=True)
class Config:
    """The settings of one process, under their environment names in lower case."""

    database_url: str = field(repr=False)
    database_pool_size: int
    trigger_secret_key: str = field(repr=False)
    trigger_environment: str | None
    trigger_api_url: str
    trigger_deadline_seconds: float
    trigger_proxy_url: str | None = field(repr=False)
    trigger_task_identifier: str
    trigger_preview_branch: str | None
    trigger_trust_missing: bool
    privy_project_secret: str = field(repr=False)
    privy_app_id: str | None
    privy_jwt_verification_key: EllipticCurvePublicKey | None = field(repr=False)
    privy_api_url: str
    recoup_org_id: UUID | None
    web_concurrency: int
    web_threads: int
    port: int | None

    @classmethod
    def load(cls, environ: Mapping[str, str | None] | None = None) -> "Config":
        """Read `environ`, or the process's environment over a `.env` in the current folder.

        Raises:
            ConfigError: naming every variable that is missing or wrong.
        """
        if environ is None:
            environ = read_environment()
        present = {name: value for name, value in environ.items() if value}
        try:
            values: dict[str, Any] = _Settings(unknown=EXCLUDE).load(present)
        except ValidationError as error:
            raise ConfigError(cast(dict[str, list[str]], error.messages)) from None
        return cls(**{name.lower(): value for name, value in values.items()})


def read_environment() -> dict[str, str | None]:
    """Return `.env` of the current folder with the process's environment laid over it.

    Raises:
        ConfigError: there is a `.env`, and it can't be read.
    """
    try:
        return {**dotenv_values(".env"), **os.environ}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError({".env": [f"can't be read: {error}."]}) from None


class _PublicKey(fields.Field[EllipticCurvePublicKey]):
    """A P-256 public key as PEM, with real or literal `\\n`, or as base64 of the PEM."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> EllipticCurvePublicKey:
        pem = value.replace("\\n", "\n").encode()
        try:
            if b"-----BEGIN" not in pem:
                pem = base64.b64decode(pem, validate=True)
            key = load_pem_public_key(pem)
        except ValueError:
            raise ValidationError("must be a public key in PEM, or base64 of it.") from None
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
            raise ValidationError("must be a P-256 key, as Privy signs with ES256.")
        return key


def _check_database_url(url: str) -> None:
    scheme, _, rest = url.partition("://")
    if scheme not in ("sqlite", "postgres", "postgresql"):
        raise ValidationError("must begin with sqlite:///, postgres:// or postgresql://.")
    if scheme == "sqlite" and (rest in ("", "/", "/:memory:") or not rest.startswith("/")):
        raise ValidationError("must name a file: sqlite:///relative or sqlite:////absolute.")
    if scheme != "sqlite":
        _check_postgres_address(rest)


def _check_postgres_address(address: str) -> None:
    """Refuse what libpq would fail on with a message that quotes it, the password included."""
    try:
        parts = conninfo_to_dict(f"postgresql://{address}")
    except (psycopg.Error, UnicodeDecodeError):
        parts = {"port": "unknown"}
    numbers = re.fullmatch(r"[0-9,]*", str(parts.get("port", "")))
    if not numbers or "@" in str(parts.get("host", "")):
        raise ValidationError("is not valid; percent-encode what is special in a password.")


_TYPE_ERRORS: dict[str, Any] = {"required": "is required.", "invalid": "is not valid."}
_NUMBER_ERRORS: dict[str, Any] = {"invalid": "must be a number."}
_printable = validate.Regexp(r"[\x21-\x7e]+\Z", error="must be printable ASCII without spaces.")
_http_url = validate.URL(schemes={"http", "https"}, require_tld=False, error="must be a URL.")
# What is put behind it would end up in the wrong place, and a user replace the secret key.
_base_url = [
    _http_url,
    validate.ContainsNoneOf("?#@", error="must have no user, query or fragment."),
]


def _text(**options: Any) -> fields.String:
    return fields.String(error_messages=_TYPE_ERRORS, **options)


def _number(default: int | None, low: int, high: int) -> fields.Integer:
    limits = validate.Range(low, high, error="must be from {min} to {max}.")
    return fields.Integer(load_default=default, validate=limits, error_messages=_NUMBER_ERRORS)


def _one_of(*values: str) -> validate.OneOf:
    return validate.OneOf(values, error=f"must be one of: {', '.join(values)}.")


class _Settings(Schema):
    DATABASE_URL = _text(load_default=DEFAULT_DATABASE_URL, validate=_check_database_url)
    DATABASE_POOL_SIZE = _number(5, 1, 1000)
    TRIGGER_SECRET_KEY = _text(required=True, validate=_printable)
    TRIGGER_ENVIRONMENT = _text(load_default=None, validate=_one_of(*TRIGGER_ENVIRONMENTS))
    TRIGGER_API_URL = _text(load_default="https://api.trigger.dev", validate=_base_url)
    TRIGGER_DEADLINE_SECONDS = fields.Float(
        load_default=8.0,
        validate=validate.Range(1, 60, error="must be from {min} to {max} seconds."),
        error_messages=_NUMBER_ERRORS,
    )
    TRIGGER_PROXY_URL = _text(load_default=None, validate=_http_url)
    TRIGGER_TASK_IDENTIFIER = _text(load_default="customer-prompt-task", validate=_printable)
    TRIGGER_PREVIEW_BRANCH = _text(load_default=None, validate=_printable)
    TRIGGER_TRUST_MISSING = fields.Boolean(
        load_default=False, error_messages={"invalid": "must be true or false."}
    )
    PRIVY_PROJECT_SECRET = _text(required=True, validate=_printable)
    PRIVY_APP_ID = _text(load_default=None, validate=_printable)
    PRIVY_JWT_VERIFICATION_KEY = _PublicKey(load_default=None)
    PRIVY_API_URL = _text(load_default="https://api.privy.io", validate=_base_url)
    RECOUP_ORG_ID = fields.UUID(
        load_default=None, error_messages={"invalid_uuid": "must be a UUID."}
    )
    WEB_CONCURRENCY = _number(2, 1, 64)
    WEB_THREADS = _number(64, 2, 1024)
    PORT = _number(None, 1, 65535)

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
            text = "is required with a key of preview (tr_preview_…): the branch it is for."
            raise ValidationError(text, "TRIGGER_PREVIEW_BRANCH")


SETTINGS = tuple(_Settings().fields)
