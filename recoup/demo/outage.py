"""The demo's stand-in: it fails for half a minute when it is told to, by who tries the demo."""

import time

from recoup.demo.answers import BAD_KEY
from recoup.demo.faults import Fault
from recoup.demo.messages import TEXT, Answer, Request
from recoup.demo.standin import StandIn

PATH = "/demo/fail"
SECONDS = 30

HOW = {
    "refuse": (Fault.status(BAD_KEY.status, BAD_KEY.body), "refuses each deletion"),
    "hang": (Fault.hang(SECONDS), "does not act on a deletion, and does not answer it"),
    "lost": (Fault.close(act=True), "acts on each deletion, and its answer is lost"),
}


class FailingStandIn(StandIn):
    """A stand-in with a route of its own: `POST /demo/fail`, whose body is one of `HOW` or `well`.

    A fault is met by each DELETE for `SECONDS`, or until the next word; no key is needed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._well_at = float("-inf")

    def receive(self, request: Request) -> Fault | None:
        """Record a request and return the fault that it meets."""
        if time.monotonic() > self._well_at:
            self.clear()
        return super().receive(request)

    def answer(self, request: Request) -> Answer:
        """Begin or end a fault, or answer as the real server does."""
        if (request.method, request.path) != ("POST", PATH):
            return super().answer(request)
        how = request.body.decode(errors="replace")
        self.clear()
        if how == "well":
            return _say(200, "The stand-in is well.")
        if how not in HOW:
            return _say(400, f"Say how: {', '.join(HOW)} or well.")
        fault, words = HOW[how]
        self._well_at = time.monotonic() + SECONDS
        self.always(fault)
        return _say(200, f"For {SECONDS} seconds the stand-in {words}.")


def _say(status: int, sentence: str) -> Answer:
    return Answer(status, f"{sentence}\n".encode(), {"content-type": TEXT})
