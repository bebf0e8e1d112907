"""The blueprint `tasks`: `DELETE /api/tasks`."""

from queue import Empty, SimpleQueue

from flask import Blueprint, current_app, request

from recoup.auth.authenticator import Authenticator
from recoup.deletion.staged import Caller, Deleter
from recoup.web.schemas import read_task_id

# A deletion waits so long for a place. To refuse costs nearly what a deletion does, and whoever is
# refused at once asks again at once; but it holds a thread that is there for everything else.
PATIENCE_SECONDS = 0.1

blueprint = Blueprint("tasks", __name__, url_prefix="/api")


class Overloaded(Exception):
    """This worker has as many deletions in hand as it takes on."""


class Service:
    """What the route works with; kept in `app.extensions["recoup"]`.

    `most_at_once`: how many deletions a worker has in hand; each holds a thread while it waits
    for Trigger.dev, and some must be left to answer everything else.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        deleter: Deleter,
        admin_organization: str | None,
        most_at_once: int,
    ) -> None:
        self.authenticator = authenticator
        self.deleter = deleter
        self._admin_organization = admin_organization
        # A semaphore, made of what Python has in C.
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(most_at_once):
            self._places.put(None)

    def delete(self, task_id: str, api_key: str | None, authorization: str | None) -> None:
        """Delete a task for whoever the two headers stand for."""
        try:
            self._places.get(timeout=PATIENCE_SECONDS)
        except Empty:
            raise Overloaded from None
        try:
            account = self.authenticator.account(api_key, authorization)
            self.deleter.delete(task_id, Caller(account, self._admin_organization))
        finally:
            self._places.put(None)


@blueprint.delete("/tasks")
def delete_task() -> dict[str, str]:
    """Delete the task that the body names, together with its schedule."""
    service: Service = current_app.extensions["recoup"]
    task_id = read_task_id(_read_body())
    headers = request.headers
    service.delete(task_id, headers.get("x-api-key"), headers.get("Authorization"))
    return {"status": "success"}


def _read_body() -> bytes:
    body = request.get_data()
    if len(body) == request.max_content_length:
        # Werkzeug cuts a chunked body off there without a word; to read on is the 413.
        request.stream.read(1)
    return body
