"""The factory: settings, database, services, routes and errors, in this order."""

import re
import sys
from collections.abc import Callable, Iterable
from random import randbytes
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Request, Response

from recoup import log, metrics
from recoup.auth.authenticator import Authenticator
from recoup.auth.privy import Privy
from recoup.config import Config
from recoup.database.connection import connect, release
from recoup.deletion.staged import Deleter
from recoup.trigger.cancel import TriggerSchedules
from recoup.web import docs, errors, health, openapi, tasks
from recoup.web.headers import CORS_HEADERS
from recoup.web.limit import DeletionLimit
from recoup.web.services import Services

MAX_BODY_BYTES = 64 * 1024
# One in eight threads is kept free of deletions, for health checks and quick answers.
SPARE_THREAD_IN = 8
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class _Response(Response):
    default_mimetype = "application/json"


class _App(Flask):
    response_class = _Response

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the view itself. No view is a coroutine; Flask would check that each time."""
        return func


def create_app(config: Config | None = None) -> Flask:
    """Make the WSGI app from `config`, or from the environment.

    Raises:
        ConfigError: naming every problem of the environment.
    """
    config = config or Config.load()
    app = _App("recoup")
    # Werkzeug silently cuts off a longer body, so one that has this length is too long.
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1
    # Two slashes are another path, which is a 404. Flask would redirect, with an HTML page.
    app.url_map.merge_slashes = False
    log.configure(sys.stdout)

    connect(config)
    app.teardown_appcontext(lambda _: release())

    app.extensions["recoup"] = _make_services(config)
    for module in (tasks, health, openapi, docs):
        app.register_blueprint(module.blueprint)
    errors.init_app(app)
    _wrap(app)
    return app


def _make_services(config: Config) -> Services:
    schedules = TriggerSchedules.of(
        config, trust_missing=config.trigger_trust_missing, pool_size=config.web_threads
    )
    return Services(
        config,
        Authenticator(config.privy_project_secret, _make_privy(config)),
        Deleter(schedules, config.trigger_deadline_seconds),
        DeletionLimit(config.web_threads - max(1, config.web_threads // SPARE_THREAD_IN)),
        admin_organization=str(config.recoup_org_id) if config.recoup_org_id else None,
    )


def _make_privy(config: Config) -> Privy | None:
    if config.privy_app_id is None or config.privy_jwt_verification_key is None:
        return None
    return Privy(
        config.privy_app_id,
        config.privy_project_secret,
        config.privy_jwt_verification_key,
        config.privy_api_url,
        pool_size=config.web_threads,
        ca_bundle=config.ca_bundle,
    )


def _wrap(app: Flask) -> None:
    """Add what belongs to every request and answer.

    These are a line in the log, with an id that the caller and Trigger.dev get too; a count; and
    the headers that allow pages of other origins.
    """
    serve = app.wsgi_app

    def wsgi_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        given = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = given if _SANE_REQUEST_ID.fullmatch(given) else randbytes(16).hex()

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            log.note(status=int(status[:3]), **_asked_for(environ["werkzeug.request"]))
            headers = [*headers, ("X-Request-ID", request_id), *CORS_HEADERS]
            return start_response(status, headers, *error)

        method = environ["REQUEST_METHOD"]
        # The route is known later. None keeps its place in the line.
        with log.record("request", request_id=request_id, method=method, route=None) as notes:
            body = serve(environ, start)
        metrics.count_request(notes)
        return body

    app.wsgi_app = wsgi_app  # type: ignore[method-assign]


def _asked_for(request: Request) -> dict[str, str]:
    if request.url_rule:
        return {"route": request.url_rule.rule}
    return {"path": log.mask_keys(request.path)}
