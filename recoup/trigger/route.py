"""The schedules route of one Trigger.dev environment: a request, and trying again.

In `/api/v1/schedules/{id}`, an `{id}` that begins with `sched_` is a schedule's id. Anything else
is a deduplication key. Recoup creates each schedule with its task's UUID as the key. Source:
trigger.dev's `apps/webapp/app/routes/api.v1.schedules.$scheduleId.ts`.
"""

import random
import time
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import quote, unquote

from recoup import log
from recoup.config import Config
from recoup.http.client import Answer, Client
from recoup.http.deadline import Deadline
from recoup.trigger.answers import Verdict

ROUTE = "/api/v1/schedules"
FIRST_BACKOFF_SECONDS = 0.1
# A first attempt that hangs must leave time for a second one.
ATTEMPT_SHARE = 0.5
# In a URL these mean the folder and the one above, encoded or not.
DOT_SEGMENTS = (".", "..")


def is_key_in_url(key: str) -> bool:
    """Whether a schedule can be asked for by this deduplication key.

    The server undoes an escape in it, which gives another key. It takes a key that begins with
    `sched_` for an id.
    """
    return unquote(key) == key and key not in DOT_SEGMENTS and not key.startswith("sched_")


class SchedulesRoute:
    """The schedules route of one Trigger.dev environment. Threads may share it."""

    def __init__(
        self,
        api_url: str,
        secret_key: str,
        *,
        branch: str | None = None,
        pool_size: int = 10,
        proxy_url: str | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {secret_key}"}
        if branch:
            headers["x-trigger-branch"] = branch
        self._client = Client(
            api_url,
            headers=headers,
            pool_size=pool_size,
            proxy_url=proxy_url,
            ca_bundle=ca_bundle,
        )

    @classmethod
    def of(cls, config: Config, **options: Any) -> Self:
        """Return the route for these settings."""
        return cls(
            config.trigger_api_url,
            config.trigger_secret_key,
            branch=config.trigger_preview_branch,
            proxy_url=config.trigger_proxy_url,
            ca_bundle=config.ca_bundle,
            **options,
        )

    def look(self, seconds: float) -> Answer:
        """Read the list's first schedule. That needs a valid key and changes nothing.

        Raises:
            requests.RequestException: no answer came.
        """
        return self._send("GET", (), seconds, query="?perPage=1")

    def _send(
        self, method: str, path: tuple[str, ...], seconds: float, query: str = "", json: Any = None
    ) -> Answer:
        """Send one request to `path` below the route."""
        below = "".join(f"/{quote(part, safe='')}" for part in path)
        request_id = log.noted("request_id")
        headers = {"X-Request-ID": request_id} if request_id else None
        return self._client.send(method, ROUTE + below + query, seconds, headers=headers, json=json)


def persist(
    attempt: Callable[[float], tuple[Verdict, float]], deadline: Deadline
) -> Verdict | None:
    """Attempt with the seconds that are left, until it is settled or the next wait is too long.

    An attempt returns the meaning of its answer, and the seconds that the server said to wait.
    Returns the last verdict; None if the deadline passed between two attempts.
    """
    backoff = FIRST_BACKOFF_SECONDS
    while (left := deadline.left()) > 0:
        verdict, wait = attempt(left)
        if verdict is not Verdict.RETRY:
            return verdict
        wait = max(wait, random.uniform(backoff / 2, backoff))
        if wait >= deadline.left():
            return verdict
        time.sleep(wait)
        backoff *= 2
    return None
