"""Calls that got no answer: whether the server may have acted, and the reason in words."""

import ssl

import requests
import urllib3.exceptions

from recoup.http.deadline import CONNECT_SECONDS

# After these, nothing was sent.
NEVER_CONNECTED = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
)


def was_sent(error: requests.RequestException) -> bool:
    """Whether the request may have reached the server before `error`."""
    return not isinstance(_cause(error), NEVER_CONNECTED)


def in_words(error: requests.RequestException, seconds: float) -> str:
    """Say for an operator why a call that had `seconds` got no answer, without quoting anyone."""
    cause = _cause(error)
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return "the host's name is not known"
    if isinstance(cause, urllib3.exceptions.NewConnectionError):  # to urllib3 a timeout, too
        return "no connection"
    if isinstance(cause, urllib3.exceptions.ConnectTimeoutError):
        return f"no connection within {min(seconds, CONNECT_SECONDS):.1f} s"
    if why_untrusted(error):
        return "the certificate is not trusted"
    if isinstance(cause, urllib3.exceptions.SSLError):
        return "no encrypted connection"
    if isinstance(cause, urllib3.exceptions.ProxyError):
        return "the proxy let nothing through"
    if isinstance(error, requests.Timeout):
        return f"no answer within {seconds:.1f} s"
    return "the connection broke off before an answer"


def why_untrusted(error: requests.RequestException) -> str | None:
    """Return OpenSSL's words about the server's certificate, if that is why a call failed."""
    cause = _cause(error)
    fault = cause.args[0] if isinstance(cause, urllib3.exceptions.SSLError) else None
    return fault.verify_message if isinstance(fault, ssl.SSLCertVerificationError) else None


def _cause(error: requests.RequestException) -> object:
    cause = error.args[0] if error.args else None
    cause = getattr(cause, "reason", cause)
    blamed = getattr(cause, "original_error", None)
    # urllib3 blames the proxy, too, for a connection that broke off after the request.
    return blamed if isinstance(blamed, ConnectionError) else cause
