"""With a key of preview, each request names the branch: without it, it is a 401."""

import pytest

from recoup.app import create_app
from recoup.demo.standin import StandIn
from recoup.trigger.inventory import ScheduleInventory
from tests.conftest import make_config
from tests.factories import World, delete

KEY = "tr_preview_standin"


@pytest.fixture(name="standin")
def _standin():
    with StandIn(KEY) as standin:
        yield standin


@pytest.fixture(name="config")
def _config(database_url, standin):
    settings = {"TRIGGER_SECRET_KEY": KEY, "TRIGGER_PREVIEW_BRANCH": "feature/x"}
    return make_config(database_url, TRIGGER_API_URL=standin.url, **settings)


def branches(standin):
    return {request.headers.get("x-trigger-branch") for request in standin.requests}


def test_a_task_is_deleted(config, standin):
    """By its own key, or by the id that its row names."""
    app = create_app(config)
    world = World(app, standin)
    account = world.account()
    key = world.key(account)
    made_by_hand = standin.add("x", externalId=None)
    named = world.task(account, schedule=False, trigger_schedule_id=made_by_hand)
    for task in (world.task(account), named):
        assert delete(app.test_client(), task, key).status_code == 200
        assert world.row(task) is None
    assert standin.schedules == {}
    assert branches(standin) == {"feature/x"}


def test_schedules_are_listed_looked_up_made_switched_and_deleted(config, standin):
    """All that a command does."""
    inventory = ScheduleInventory.of(config)
    id_ = standin.add("x", active=False)
    [schedule] = inventory.list_all(lambda *_: None)
    inventory.delete(schedule)
    made = inventory.make(schedule)
    assert inventory.get("x").id == inventory.newest().id == made.id != id_
    assert list(standin.schedules) == [made.id]
    assert standin.schedules[made.id]["active"] is False
    assert branches(standin) == {"feature/x"}
