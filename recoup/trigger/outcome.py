"""How a command's request to Trigger.dev ended: its answer, or why there is none."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, ValidationError

from recoup.http.client import BODY_LIMIT_BYTES, Answer
from recoup.trigger.answers import Verdict, describe

LIMIT_IN_WORDS = f"{BODY_LIMIT_BYTES // 1024:,} KiB"
HINTS = {
    401: "check TRIGGER_SECRET_KEY",
    403: "check TRIGGER_SECRET_KEY",
    429: "other programs use up the rate limit",
}


class InventoryFailed(Exception):
    """Trigger.dev could not be asked, or its answer can't be relied on."""


class Refused(InventoryFailed):
    """Trigger.dev won't make this schedule, however often it is asked; others it may."""


class TooLarge(InventoryFailed):
    """An answer is larger than the limit."""


@dataclass
class Outcome:
    """How a request ended; `wait`: seconds until the rate limit allows another."""

    status: int | None = None
    reason: str = "nothing was sent"
    wait: float = 0.0
    body: Any = None

    def read(self, answer: Answer, means: Callable[[Answer], Verdict]) -> Verdict:
        """Judge an answer; a success must have come whole.

        Raises:
            TooLarge: the answer is too large to be read whole.
        """
        self.status, self.reason, self.body = answer.status, describe(answer), None
        verdict = means(answer)
        if not 200 <= answer.status < 300:
            return verdict
        try:
            self.body = json.loads(answer.body)
        except (ValueError, RecursionError):
            if len(answer.body) == BODY_LIMIT_BYTES:
                raise TooLarge(f"Trigger.dev's answer is larger than {LIMIT_IN_WORDS}") from None
            self.reason += ", but not with JSON"
            return Verdict.RETRY
        if verdict is not Verdict.SUCCESS:
            self.reason += ", but not with a schedule"
        return verdict

    def explain(self) -> str:
        """Say why it failed and what to do; for a 422, its own words must do."""
        if self.status == 422:
            return self.reason
        hint = HINTS.get(self.status or 0, "check TRIGGER_API_URL, or try again later")
        return f"{self.reason}; {hint}"


def load(schema: type[Schema], body: Any) -> Any:
    """Return the body as the schema loads it, or raise `InventoryFailed`."""
    try:
        return schema().load(body)
    except ValidationError as error:
        raise InventoryFailed(
            "Trigger.dev's answer is not understood; check TRIGGER_API_URL"
        ) from error
