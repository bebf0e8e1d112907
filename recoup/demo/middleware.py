"""What Trigger.dev's web server does before and after its routes.

Mirrors apps/webapp/server.ts and services/authorizationRateLimitMiddleware.server.ts of
trigger.dev, and what Node itself refuses.
"""

from collections.abc import Callable
from dataclasses import replace

from recoup.demo import answers
from recoup.demo.messages import Answer, Request

# Node's limit for a request's head.
HEAD_LIMIT_BYTES = 16 * 1024


def respond(request: Request, routes: Callable[[Request], Answer]) -> Answer:
    """Return the answer to a request; the routes are asked only if it gets that far."""
    answer = _respond(request, routes)
    if request.method == "HEAD":
        return replace(answer, body=b"", framing="none")
    packs = answer.framing == "chunked" and "gzip" in request.headers.get("accept-encoding", "")
    return answer.gzipped() if packs else answer


def _respond(request: Request, routes: Callable[[Request], Answer]) -> Answer:
    path, mark, query = request.path.partition("?")
    if request.head_size > HEAD_LIMIT_BYTES:
        return answers.HEAD_TOO_LARGE
    if path.endswith("/") and path != "/":
        return answers.moved(path[:-1] + mark + query)
    if path == "/healthcheck":
        return answers.HEALTHY
    if not path.startswith("/api/"):
        return answers.NO_PAGE
    return _limit(request, routes)


def _limit(request: Request, routes: Callable[[Request], Answer]) -> Answer:
    if request.method == "OPTIONS":
        return routes(request)
    if not request.headers.get("authorization"):
        return answers.NO_KEY
    answer = routes(request)
    return replace(answer, headers={**answers.rate_headers(), **answer.headers})
