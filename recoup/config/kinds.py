"""The kinds of settings: what a variable's text means, and which texts are invalid.

No message quotes a value, because it may contain a secret.
"""

import base64
import ipaddress
import re
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import requests
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from marshmallow import ValidationError, fields, validate
from psycopg.conninfo import conninfo_to_dict

_TYPE_ERRORS: dict[str, Any] = {"required": "is required.", "invalid": "is not valid."}
_NUMBER_ERRORS: dict[str, Any] = {"invalid": "must be a number."}
_SWITCH_ERRORS: dict[str, Any] = {"invalid": "must be true or false."}
_UUID_ERRORS: dict[str, Any] = {"invalid_uuid": "must be a UUID."}
_ENCODE = "percent-encode special characters in a password, such as # as %23 and / as %2F."
_UNUSABLE = f"is not valid; {_ENCODE}"
_UNKNOWN_OPTION = f"has an option after ? that Postgres doesn't know: remove it, or {_ENCODE}"

_printable = validate.Regexp(r"[\x21-\x7e]+\Z", error="must be printable ASCII without spaces.")
_http_url = validate.URL(schemes={"http", "https"}, require_tld=False, error="must be a URL.")


def secret() -> fields.String:
    """Return a required text."""
    return fields.String(required=True, validate=_printable, error_messages=_TYPE_ERRORS)


def word(default: str | None = None) -> fields.String:
    """Return a text without spaces."""
    return fields.String(load_default=default, validate=_printable, error_messages=_TYPE_ERRORS)


def choice(*values: str, default: str | None = None) -> fields.String:
    """Return one of a few texts, or none."""
    known = validate.OneOf(values, error=f"must be one of: {', '.join(values)}.")
    return fields.String(load_default=default, validate=known, error_messages=_TYPE_ERRORS)


def number(default: int | None, low: int, high: int) -> fields.Integer:
    """Return a whole number within limits."""
    limits = validate.Range(low, high, error="must be from {min} to {max}.")
    return fields.Integer(load_default=default, validate=limits, error_messages=_NUMBER_ERRORS)


def seconds(default: float, low: float, high: float) -> fields.Float:
    """Return a time within limits."""
    limits = validate.Range(low, high, error="must be from {min} to {max} seconds.")
    return fields.Float(load_default=default, validate=limits, error_messages=_NUMBER_ERRORS)


def switch(default: bool) -> fields.Boolean:
    """Return true or false."""
    return fields.Boolean(load_default=default, error_messages=_SWITCH_ERRORS)


def uuid() -> fields.UUID:
    """Return an id, or none."""
    return fields.UUID(load_default=None, error_messages=_UUID_ERRORS)


def base_url(default: str) -> fields.String:
    """Return the address of a service, to which paths are added."""
    return fields.String(load_default=default, validate=_check_base_url)


def _check_base_url(url: str) -> None:
    _check_url(url)
    # A path would be added in the wrong place, and a user would replace the secret key.
    if re.search("[?#@]", url):
        raise ValidationError("must have no user, query or fragment.")


def _check_url(url: str) -> None:
    _http_url(url)
    try:
        # Only this refuses the port 99999, which would otherwise fail when a worker starts.
        requests.Request("GET", url).prepare()
    except ValueError:
        raise ValidationError("must be a URL.") from None


def proxy_url() -> fields.String:
    """Return the address of a proxy, or none."""
    return fields.String(load_default=None, validate=_check_proxy_url)


def _check_proxy_url(url: str) -> None:
    error = ValidationError(f"must be like http://user:password@proxy:3128; {_ENCODE}")
    try:
        _check_url(url)
    except ValidationError:
        raise error from None
    parts = urlsplit(url)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise error


def database_url(default: str) -> fields.String:
    """Return where the database is."""
    return fields.String(load_default=default, validate=_check_database_url)


def _check_database_url(url: str) -> None:
    scheme, _, rest = url.partition("://")
    if scheme not in ("sqlite", "postgres", "postgresql"):
        raise ValidationError("must begin with sqlite:///, postgres:// or postgresql://.")
    if scheme == "sqlite" and (rest in ("", "/", "/:memory:") or not rest.startswith("/")):
        raise ValidationError("must name a file: sqlite:///relative or sqlite:////absolute.")
    if scheme != "sqlite":
        _check_postgres_address(rest)


def _check_postgres_address(address: str) -> None:
    """Refuse what libpq would reject with a message that quotes the password."""
    try:
        parts = conninfo_to_dict(f"postgresql://{address}")
    except (psycopg.Error, UnicodeDecodeError) as error:
        known = "invalid URI query parameter" not in str(error)
        raise ValidationError(_UNUSABLE if known else _UNKNOWN_OPTION) from None
    numbers = re.fullmatch(r"[0-9,]*", str(parts.get("port", "")))
    if not numbers or "@" in str(parts.get("host", "")):
        raise ValidationError(_UNUSABLE)
    if re.search("[/@#]", str(parts.get("dbname", ""))):
        raise ValidationError(f"must have only the database's name after the host; {_ENCODE}")


def host() -> fields.String:
    """Return an address of this machine, or none."""
    return fields.String(load_default=None, validate=_check_host)


def _check_host(text: str) -> None:
    try:
        if ":" in text:
            ipaddress.IPv6Address(text)
        if not re.fullmatch(r"[A-Za-z0-9._:-]+", text):
            raise ValueError
    except ValueError:
        text = "must be an address or a name, without brackets and without a port."
        raise ValidationError(text) from None


def certificates() -> fields.String:
    """Return a file of certificates, or a folder made by `openssl rehash`, or none."""
    return fields.String(load_default=None, validate=_check_certificates)


def _check_certificates(path: str) -> None:
    if Path(path).is_dir():
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ValidationError("names a file without a certificate in PEM.") from None
    except OSError as error:
        raise ValidationError(f"names a file that can't be read: {error.strerror}.") from None


class PublicKey(fields.Field[EllipticCurvePublicKey]):
    """A P-256 public key as PEM, with real or literal `\\n`, or as base64 of the PEM."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> EllipticCurvePublicKey:
        pem = value.replace("\\n", "\n").encode()
        try:
            if b"-----BEGIN" not in pem:
                pem = base64.b64decode(b"".join(pem.strip(b"\"'").split()), validate=True)
            key = load_pem_public_key(pem)
        except ValueError:
            raise ValidationError("must be a public key in PEM, or base64 of it.") from None
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
            raise ValidationError("must be a P-256 key, because Privy signs with ES256.")
        return key
