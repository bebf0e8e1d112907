"""Who is calling: an API key or a Privy access token, turned into an account."""

import hmac

from recoup import log
from recoup.auth.privy import InvalidToken, Privy
from recoup.database import statements

API_KEY_PREFIX = "recoup_sk_"
# What a caller is told about every invalid credential.
UNAUTHORIZED = "Unauthorized"


class Unauthenticated(Exception):
    """The request has no valid credential.

    The message is for the caller. `why` is for the log: it may say more than a stranger should
    learn.
    """

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


class Authenticator:
    """Turns credentials into accounts. Threads may share it."""

    def __init__(self, key_secret: str, privy: Privy | None) -> None:
        self._key_secret = key_secret.encode()
        self._privy = privy

    def account(self, api_key: str | None, authorization: str | None) -> str:
        """Return the id of the account that the two headers stand for.

        Raises:
            Unauthenticated: no credential, both, or an invalid one.
            PrivyFailed, DatabaseFailed: it can't be checked now.
        """
        if bool(api_key) == bool(authorization):
            message = "Exactly one of x-api-key or Authorization must be provided"
            raise Unauthenticated(message, "both headers" if api_key else "no credential")
        credential = api_key or _bearer(authorization or "")
        if api_key or credential.startswith(API_KEY_PREFIX):
            account = self._account_of_key(credential)
        else:
            account = self._account_of_token(credential)
        log.note(account=account)
        return account

    def hash_key(self, key: str) -> str:
        """Return what is stored for an API key: its HMAC-SHA256 in hex digits."""
        return hmac.digest(self._key_secret, key.encode(), "sha256").hex()

    def _account_of_key(self, key: str) -> str:
        found = statements.find_key(self.hash_key(key))
        if found is None:
            raise Unauthenticated(UNAUTHORIZED, "unknown key")
        log.note(key=found.id)
        if found.expired:
            raise Unauthenticated(UNAUTHORIZED, "expired key")
        return found.account

    def _account_of_token(self, token: str) -> str:
        if self._privy is None:
            raise Unauthenticated(UNAUTHORIZED, "a token, and no Privy app is set")
        try:
            email = self._privy.email(token)
        except InvalidToken as error:
            raise Unauthenticated(UNAUTHORIZED, str(error)) from None
        account = statements.account_of_email(email) if email else None
        if account is None:
            why = "unknown e-mail address" if email else "a user without an e-mail address"
            raise Unauthenticated(UNAUTHORIZED, why)
        return account


def _bearer(authorization: str) -> str:
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise Unauthenticated("Authorization header with Bearer token required", "no bearer token")
    return credential.strip()
