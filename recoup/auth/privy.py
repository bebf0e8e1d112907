"""Privy: whose access token is this, and what is that user's e-mail address?

Sources: Privy's documentation pages "Access tokens" and "Get user by ID".
"""

from urllib.parse import quote

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from recoup.http.client import Answer, Client, read_object
from recoup.http.deadline import Deadline
from recoup.http.failures import in_words

ISSUER = "privy.io"
CLOCK_SKEW_SECONDS = 10
LOOKUP_SECONDS = 5.0


class InvalidToken(Exception):
    """Not a valid token of our app, or its user is gone."""


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

    def email(self, token: str) -> str | None:
        """Return the e-mail address of a token's user; None if there is none.

        Of several it is the first that the user proved by e-mail, as in Recoup's own API. The
        address of a Google account does not count.

        Raises:
            InvalidToken: the caller's fault; the message says why.
            PrivyFailed: not the caller's fault.
        """
        path = f"/v1/users/{quote(self._subject(token), safe='')}"
        try:
            answer = self._ask(path)
        except requests.RequestException as error:
            raise PrivyFailed(in_words(error, LOOKUP_SECONDS)) from None
        if answer.status == 404 and read_object(answer):  # a wrong address has a page
            raise InvalidToken("unknown user")
        if answer.status != 200:
            raise PrivyFailed(f"Privy answered {answer.status}")
        return _first_address(answer)

    def _ask(self, path: str) -> Answer:
        """Ask, and once more in what is left of the time: a kept connection may have been lost."""
        deadline = Deadline(LOOKUP_SECONDS)
        try:
            return self._client.send("GET", path, LOOKUP_SECONDS)
        except requests.RequestException:
            if deadline.left() <= 0:
                raise
            return self._client.send("GET", path, deadline.left())

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
        except jwt.ExpiredSignatureError:
            raise InvalidToken("expired token") from None
        except jwt.InvalidSignatureError:
            raise InvalidToken("bad signature") from None
        except jwt.PyJWTError:
            raise InvalidToken("not a token of this app") from None
        return str(claims["sub"])


def _first_address(answer: Answer) -> str | None:
    try:
        accounts = read_object(answer)["linked_accounts"]
        addresses = [account["address"] for account in accounts if account["type"] == "email"]
        types = [account["type"] for account in accounts]
        if not all(isinstance(text, str) for text in addresses + types):
            raise TypeError("an address or a type is not a string")
    except (TypeError, KeyError):
        raise PrivyFailed("Privy did not answer with a user") from None
    return addresses[0] if addresses else None
