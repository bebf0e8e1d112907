"""The blueprint `tasks`: `DELETE /api/tasks`."""

from flask import Blueprint, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from recoup import log
from recoup.deletion.outcomes import Caller
from recoup.web.schemas import read_task_id
from recoup.web.services import Services

blueprint = Blueprint("tasks", __name__, url_prefix="/api")


@blueprint.delete("/tasks")
def delete_task() -> dict[str, str]:
    """Delete the task that the body names, together with its schedule."""
    services: Services = current_app.extensions["recoup"]
    task_id = read_task_id(_read_body())
    log.note(task=task_id)
    headers = request.headers
    with services.limit.place():
        account = services.authenticator.account(
            headers.get("x-api-key"), headers.get("Authorization")
        )
        services.deleter.delete(task_id, Caller(account, services.admin_organization))
    return {"status": "success"}


def _read_body() -> bytes:
    body = request.get_data()
    if len(body) == request.max_content_length:
        raise RequestEntityTooLarge
    return body
