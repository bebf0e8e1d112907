"""Trigger.dev's constant answers, and its rate limiter's refusal."""

from collections.abc import Mapping
from dataclasses import replace

from recoup.demo.messages import HTML, TEXT, Answer, json_answer, now_ms, problem_answer

# The rate limiter's defaults: tokens at most, and seconds until some are added.
RATE_LIMIT = 750
RATE_WINDOW = 10.0

SERVER_ERROR = json_answer(500, {"error": "Something went wrong, please try again."})
# Its answer if its database failed, or if the connection was lost after a commit.
DATABASE_ERROR = json_answer(422, {"error": "Internal Server Error"})
NOT_FOUND = json_answer(404, {"error": "Schedule not found"})
BAD_KEY = json_answer(401, {"error": "Invalid or Missing API Key"})
NO_KEY = problem_answer(
    {
        "title": "Unauthorized",
        "status": 401,
        "type": "https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/401",
        "detail": "No authorization header provided",
        "error": "No authorization header provided",
    }
)
# The real routes say so only in the body: a DELETE without an id looks like a success.
WRONG_METHOD = json_answer(200, {"status": 405, "body": "Method Not Allowed"})
# The web framework's answers to a GET of a write-only route, and to an uncaught error.
NO_LOADER = json_answer(400, {"message": "Unexpected Server Error"})
CRASHED = Answer(500, b"Unexpected Server Error", {"content-type": TEXT})
HEALTHY = Answer(200, b"OK", {"content-type": "text/plain;charset=UTF-8"})
# The web server's own answers, before any route.
HEAD_TOO_LARGE = Answer(431, b"", {"connection": "close"}, "none")


def page(status: int, title: str) -> Answer:
    """Return an HTML page."""
    body = f"<!DOCTYPE html><html><body><h1>{title}</h1></body></html>".encode()
    return Answer(status, body, {"content-type": HTML})


NO_PAGE = page(404, "404 Not Found")
BAD_PATH = replace(page(400, "Bad Request"), framing="length")


def moved(location: str) -> Answer:
    """Return the redirect from a path with a slash at its end."""
    body = f"Moved Permanently. Redirecting to {location}".encode()
    return Answer(301, body, {"location": location, "content-type": TEXT}, "length")


def rate_headers() -> Mapping[str, str]:
    """Return the rate limiter's headers for what it lets through; the reset is in unix ms."""
    return {
        "x-ratelimit-limit": str(RATE_LIMIT),
        "x-ratelimit-remaining": str(RATE_LIMIT - 1),
        "x-ratelimit-reset": str(now_ms(RATE_WINDOW)),
    }


def too_many(reset_in_seconds: float) -> Answer:
    """Return the rate limiter's refusal; it has no Retry-After."""
    reset = now_ms(reset_in_seconds)
    detail = (
        f"Rate limit exceeded 0/{RATE_LIMIT} requests remaining. "
        f"Retry in {reset_in_seconds} seconds."
    )
    problem = {
        "title": "Rate Limit Exceeded",
        "status": 429,
        "type": "https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/429",
        "detail": detail,
        "reset": reset,
        "limit": RATE_LIMIT,
        # The count goes below zero; the header and the words stop at 0.
        "remaining": -1,
        "secondsUntilReset": reset_in_seconds,
        "error": detail,
    }
    headers = {**rate_headers(), "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(reset)}
    return problem_answer(problem, headers)
