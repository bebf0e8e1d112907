"""What the demo begins with: an account with a key, some tasks, and their schedules."""

from uuid import UUID

from recoup.app import create_app
from recoup.config import Config
from recoup.database.connection import release
from recoup.database.migrations import upgrade
from recoup.database.models import Account, AccountApiKey, ScheduledAction
from recoup.demo.standin import StandIn
from recoup.web.schemas import EXAMPLE_ID

KEY = "recoup_sk_demo"
# The first stays for who presses Execute at /docs; then one for each line to paste, and spares.
TASKS = {
    EXAMPLE_ID: "Weekly streaming report",
    "1f0c7d4e-3b52-4a8e-9d61-5c2e8b7f9a10": "Monthly playlist pitch",
    "7c9e6679-7425-40de-944b-e07fc1f90ae7": "Tour date reminder",
    "b3d5f2a8-60c1-4e7d-8f94-2a1c9e5d7b36": "New follower digest",
    "4e8a1c70-9f2d-4b6b-a5e3-7d0f8c2b1e59": "Release day checklist",
    "d92b7e15-3c84-4f0a-b6d7-15e8a4c0f382": "Merch sales summary",
    "60f7c3b9-8d1e-4a25-9c70-e4b2d6a8f013": "Press mention roundup",
}


def fill(config: Config, standin: StandIn) -> None:
    """Make the demo's database and its schedules."""
    service = create_app(config).extensions["recoup"]
    upgrade()
    account = Account.create(name="Demo").id
    key_hash = service.authenticator.hash_key(KEY)
    AccountApiKey.create(name="demo", account=account, key_hash=key_hash)
    for task_id, title in TASKS.items():
        ScheduledAction.insert(
            id=UUID(task_id),
            title=title,
            prompt=f"Write the {title.lower()}.",
            schedule="0 9 * * 1",
            account_id=account,
            artist_account_id=account,
            trigger_schedule_id=standin.add(task_id),
        ).execute()
    release()
