"""Calls to outside services, Trigger.dev and Privy, each within a deadline."""

import json as _json
from collections.abc import Mapping
from typing import Any, NamedTuple

import requests
import urllib3

from recoup.http.deadline import DeadlineAdapter, total_timeout

# A page of a hundred schedules must fit.
BODY_LIMIT_BYTES = 1024 * 1024


class Answer(NamedTuple):
    """What a server said: status, headers, and at most `BODY_LIMIT_BYTES` of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read_object(answer: Answer) -> dict[str, Any]:
    """Return the JSON object of an answer; an empty one if it has none."""
    try:
        content = _json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


class Client:
    """Calls one outside service, each time within a deadline. Threads may share it.

    It uses the adapters of requests without its sessions. So nothing comes from the environment (a
    `.netrc` entry would replace our credentials, and the proxy is a setting of ours), redirects are
    not followed, and cookies are not kept. Sessions also take as long as all the rest.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        pool_size: int = 10,
        proxy_url: str | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        # True, or a file of certificates to trust instead of the usual ones.
        self.verify: bool | str = ca_bundle or True
        self._adapter = DeadlineAdapter(pool_connections=2, pool_maxsize=pool_size)
        self._proxies = {"http": proxy_url, "https": proxy_url} if proxy_url else {}
        request = requests.Request("GET", base_url.rstrip("/"), headers=headers, auth=auth)
        request.headers["Accept-Encoding"] = "identity"
        prepared = request.prepare()
        self._headers = dict(prepared.headers)
        self._base_url = str(prepared.url).rstrip("/")

    def send(
        self,
        method: str,
        path: str,
        seconds: float,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> Answer:
        """Send one request and read its answer within `seconds` in all.

        `path` is added to the base URL as it is.

        Raises:
            requests.RequestException: no whole answer came.
        """
        request = requests.PreparedRequest()
        request.method, request.url = method, self._base_url + path
        request.headers = {**self._headers, **(headers or {})}  # type: ignore[assignment]
        if json is not None:
            request.prepare_body(None, None, json)
        response: Any = self._adapter.send(
            request,
            stream=True,
            timeout=total_timeout(seconds),  # type: ignore[arg-type]
            verify=self.verify,
            proxies=self._proxies,
        )
        with response:
            return Answer(response.status, response.headers, _read(response))


def _read(response: urllib3.HTTPResponse) -> bytes:
    try:
        body = response.read(BODY_LIMIT_BYTES)
        if len(body) < BODY_LIMIT_BYTES and response.length_remaining != 0:
            response.read(1)  # There is no more; if the body broke off, this raises.
    except urllib3.exceptions.ReadTimeoutError as error:
        raise requests.ReadTimeout(error) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise requests.ConnectionError(error) from error
    return body
