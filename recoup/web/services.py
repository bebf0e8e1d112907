"""The services that routes and commands use; `create_app` makes them."""

from dataclasses import dataclass

from recoup.auth.authenticator import Authenticator
from recoup.config import Config
from recoup.deletion.staged import Deleter
from recoup.web.limit import DeletionLimit


@dataclass(frozen=True)
class Services:
    """The services of one app, kept in `app.extensions["recoup"]`. Threads share them.

    Members of `admin_organization` may act for every account; None: nobody may.
    """

    config: Config
    authenticator: Authenticator
    deleter: Deleter
    limit: DeletionLimit
    admin_organization: str | None
