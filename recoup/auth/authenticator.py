"""Who is calling: an API key or a Privy access token, turned into an account."""

import hashlib
import hmac

from recoup import log
from recoup.auth.privy import InvalidToken, Privy
from recoup.database import statements

API_KEY_PREFIX = "recoup_sk_"


class Unauthenticated(Exception):
    """The request carries no credential that counts; the message tells the caller why."""


class Authenticator:
    """Turns credentials into accounts. Threads may share it."""

    def __init__(self, key_secret: str, privy: Privy | None) -> None:
        self._key_secret = key_secret.encode()
        self._privy = privy

    def account(self, api_key: str | None, authorization: str | None) -> str:
        """Return the id of the account that the two headers stand for.

        Raises:
            Unauthenticated: none, both, unknown or expired.
            PrivyFailed, DatabaseFailed: nobody can tell now.
        """
        if bool(api_key) == bool(authorization):
            raise Unauthenticated("Exactly one of x-api-key or Authorization must be provided")
        credential = api_key or _bearer(authorization or "")
        if api_key or credential.startswith(API_KEY_PREFIX):
            account = statements.account_of_key(self.hash_key(credential))
        else:
            account = self._account_of_token(credential)
        if account is None:
            raise Unauthenticated("Unauthorized")
        log.note(account=account)
        return account

    def hash_key(self, key: str) -> str:
        """Return what is stored of an API key: its HMAC-SHA256 in hex digits."""
        return hmac.new(self._key_secret, key.encode(), hashlib.sha256).hexdigest()

    def _account_of_token(self, token: str) -> str | None:
        if self._privy is None:
            return None
        try:
            emails = self._privy.emails(token)
        except InvalidToken:
            return None
        return statements.account_of_emails(emails) if emails else None


def _bearer(authorization: str) -> str:
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise Unauthenticated("Authorization header with Bearer token required")
    return credential.strip()
