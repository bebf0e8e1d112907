"""Privy, whose access tokens people carry: who is this, and what is their e-mail address?

Sources: Privy's documentation pages "Access tokens" and "Get user by ID".
"""

import json
from collections.abc import Sequence
from urllib.parse import quote

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from recoup.http.client import Answer, Client

ISSUER = "privy.io"
CLOCK_SKEW_SECONDS = 10
LOOKUP_SECONDS = 5.0


class InvalidToken(Exception):
    """Not a token of our app's that is valid now, or its user is gone."""


class PrivyFailed(Exception):
    """Privy could not be asked, or gave no usable answer; the message says which."""


class Privy:
    """One Privy app. Threads may share it."""

    def __init__(
        self,
        app_id: str,
        app_secret: str,
        verification_key: EllipticCurvePublicKey,
        api_url: str,
        *,
        pool_size: int = 10,
        ca_bundle: str | None = None,
    ) -> None:
        self._app_id = app_id
        self._key = verification_key
        self._client = Client(
            api_url,
            headers={"privy-app-id": app_id},
            auth=(app_id, app_secret),
            pool_size=pool_size,
            ca_bundle=ca_bundle,
        )

    def emails(self, token: str) -> Sequence[str]:
        """Return the e-mail addresses of a token's user; there may be none.

        Raises:
            InvalidToken: the caller's fault.
            PrivyFailed: not the caller's fault.
        """
        path = f"/v1/users/{quote(self._subject(token), safe='')}"
        try:
            answer = self._client.send("GET", path, LOOKUP_SECONDS)
        except requests.RequestException as error:
            raise PrivyFailed(f"Privy: {type(error).__name__}") from error
        if answer.status == 404:
            raise InvalidToken
        if answer.status != 200:
            raise PrivyFailed(f"Privy answered {answer.status}")
        return _email_addresses(answer)

    def _subject(self, token: str) -> str:
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["ES256"],
                audience=self._app_id,
                issuer=ISSUER,
                leeway=CLOCK_SKEW_SECONDS,
                options={"require": ["exp", "iat", "sub", "iss", "aud"]},
            )
        except jwt.PyJWTError:
            raise InvalidToken from None
        return str(claims["sub"])


def _email_addresses(answer: Answer) -> Sequence[str]:
    """Read the addresses that a user proved to Privy by e-mail or with a Google account."""
    field_of_type = {"email": "address", "google_oauth": "email"}
    try:
        accounts = json.loads(answer.body)["linked_accounts"]
        addresses = [
            account[field_of_type[account["type"]]]
            for account in accounts
            if account["type"] in field_of_type
        ]
        if not all(isinstance(address, str) for address in addresses):
            raise TypeError("an address is no text")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise PrivyFailed("Privy answered with something else than a user") from error
    return addresses
