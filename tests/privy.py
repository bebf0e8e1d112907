"""A stand-in of Privy on a local socket: the users that its REST API knows, and their tokens."""

import base64
import hashlib
import hmac
import json
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

APP_ID = "app-of-the-tests"
APP_SECRET = "secret-of-the-tests"
ROOT = "/v1/users/"
DID = "did:privy:cm3np4u9j001rc8b73seqmqqk"


@cache
def signing_key():
    """Return the app's private key, the same for the whole run."""
    return generate_private_key(SECP256R1())


def verification_key():
    """Return the public half as Privy's dashboard shows it: PEM."""
    public_key = signing_key().public_key()
    return public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def make_claims(**changed):
    """Return an access token's claims; one that is given as None is left out."""
    now = int(time.time())
    claims = {
        "sid": "cm4x8f2k1000108l4",
        "sub": DID,
        "iss": "privy.io",
        "aud": APP_ID,
        "iat": now,
        "exp": now + 3600,
        **changed,
    }
    return {name: value for name, value in claims.items() if value is not None}


def make_token(key=None, **changed):
    """Return an access token, signed with *key* or the app's own."""
    return jwt.encode(make_claims(**changed), key or signing_key(), "ES256")


def forge_token(algorithm, secret=None):
    """Return a token whose header says *algorithm*: an HMAC with *secret*, or no signature.

    By hand, as PyJWT refuses to make such tokens.
    """
    header = {"alg": algorithm, "typ": "JWT"}
    signed = b".".join(_base64(json.dumps(part).encode()) for part in (header, make_claims()))
    mac = hmac.digest(secret.encode(), signed, hashlib.sha256) if secret else b""
    return (signed + b"." + _base64(mac)).decode()


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def email(address):
    """Return a linked account as Privy has it for an e-mail address."""
    return {"type": "email", "address": address, "verified_at": 1_700_000_000}


def google(address):
    """Return a linked account as Privy has it for a login with Google."""
    return {"type": "google_oauth", "subject": "1061", "email": address, "name": "Somebody"}


class PrivyStandIn:
    """Privy's `GET /v1/users/{did}` at `url`; a context manager.

    *users* maps a DID to its linked accounts. *answer*, a status and bytes, stands in for
    every answer if it is set, and *hang_seconds* goes before each. *paths* are those asked for.
    """

    def __init__(self):
        self.users = {}
        self.answer = None
        self.hang_seconds = 0
        self.paths = []
        self._stopping = threading.Event()

    def __enter__(self):
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.standin = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Stop listening, so that connections are refused."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def respond(self, path, headers):
        """Return status and body for a request."""
        self.paths.append(path)
        self._stopping.wait(self.hang_seconds)
        if self.answer:
            return self.answer
        credentials = base64.b64encode(f"{APP_ID}:{APP_SECRET}".encode()).decode()
        if headers["authorization"] != f"Basic {credentials}" or headers["privy-app-id"] != APP_ID:
            return 401, b'{"error": "Invalid app ID or app secret."}'
        linked_accounts = self.users.get(unquote(path.removeprefix(ROOT)))
        if linked_accounts is None or not path.startswith(ROOT):
            return 404, b'{"error": "User not found"}'
        return 200, json.dumps({"id": DID, "linked_accounts": linked_accounts}).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = self.server.standin.respond(self.path, self.headers)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep quiet."""
