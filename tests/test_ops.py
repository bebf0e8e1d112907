"""The dashboard and the alerts in `ops/`, checked by Prometheus itself where it is installed."""

import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import requests
import yaml
from click.testing import CliRunner

from recoup.app import create_app
from recoup.commands.main import main
from recoup.database.migrations import upgrade
from recoup.demo.standin import Fault, StandIn
from recoup.metrics import OUTCOMES, RECOVERIES, REFUSALS
from tests.conftest import close_database, make_config
from tests.factories import World
from tests.postgres import free_port
from tests.server import Server
from tests.waiting import wait_for

OPS = Path(__file__).resolve().parent.parent / "ops"
DASHBOARD = json.loads((OPS / "grafana-dashboard.json").read_text())
ALERTS = (OPS / "prometheus-alerts.yml").read_text()
RULES = {rule["alert"]: rule for rule in yaml.safe_load(ALERTS)["groups"][0]["rules"]}
ALERT_TESTS = yaml.safe_load((OPS / "prometheus-alerts.test.yml").read_text())["tests"]
RUNBOOK = (OPS.parent / "docs" / "runbook.md").read_text()
COMMANDS = sorted(set(re.findall(r"(?:^    |`)recoup ([a-z -]+[a-z])", RUNBOOK, re.MULTILINE)))
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]
SECONDS = 60


def find(program):
    """Return a program of Prometheus', or skip the test."""
    path = shutil.which(program)
    if path is None:
        required = os.environ.get("RECOUP_REQUIRE_PROMETHEUS") == "1"
        (pytest.fail if required else pytest.skip)(
            f"no {program}; `apt-get install prometheus` brings it"
        )
    return path


@pytest.fixture(name="samples")
def _samples(sqlite_url):
    """Return the names of all samples that `/metrics` can show."""
    client = create_app(make_config(sqlite_url)).test_client()
    client.get("/healthz")
    text = client.get("/metrics").text
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    suffixes = {"histogram": ("_bucket", "_count", "_sum")}
    return {name + suffix for name in types for suffix in suffixes.get(types[name], ("",))}


def test_every_metric_that_is_asked_for_exists(samples):
    """A name that was mistyped or changed would show nothing, and never wake anybody."""
    asked = set(re.findall(r"\brecoup_\w+", ALERTS + json.dumps(DASHBOARD["panels"])))
    assert len(asked) >= 7
    assert asked <= samples


def test_every_outcome_that_is_asked_for_exists():
    """As with names."""
    text = ALERTS + "".join(query.values[0] for query in QUERIES)
    asked = set("|".join(re.findall(r'outcome(?:=~|!=|=)"([^"]*)"', text)).split("|"))
    assert {"deleted", "refused", "in doubt"} < asked <= {*OUTCOMES, *RECOVERIES}
    assert set(re.findall(r'reason="([^"]*)"', text)) == set(REFUSALS)


def test_every_alert_has_its_section_in_the_runbook():
    """It links to it; and no section is left of an alert that is gone."""
    headings = re.findall(r"^## (Recoup\w+)$", RUNBOOK, re.MULTILINE)
    assert headings == list(RULES)
    links = set(re.findall(r"\(#(\w+)\)", RUNBOOK))
    assert links <= {heading.lower() for heading in headings}
    for name, rule in RULES.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_every_section_of_the_runbook_answers_the_same_four_questions():
    """In the same order, so that an eye at night finds each in its place."""
    sections = re.split(r"^## Recoup\w+$", RUNBOOK, flags=re.MULTILINE)[1:]
    for section in sections:
        asked = re.findall(r"^\*\*(.*?)\*\*", section, re.MULTILINE)
        assert asked == ["Customers", "Look", "Do", "Over"], section


def test_every_metric_of_the_runbook_exists(samples):
    """As with the alerts."""
    asked = set(re.findall(r"\brecoup_[a-z_]*[a-z]\b", RUNBOOK))
    assert asked
    assert asked <= samples


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_runbook_exists(command):
    """Its options too."""
    words = command.split()
    names = [word for word in words if not word.startswith("-")]
    result = CliRunner().invoke(main, [*names, "--help"])
    assert result.exit_code == 0, result.output
    assert f"Usage: recoup {' '.join(names)}" in result.stdout
    assert all(option in result.stdout for option in words if option.startswith("-"))


def test_every_alert_is_tried_out_firing_and_not():
    """By promtool, below."""
    expected = [sample for test in ALERT_TESTS for sample in test["promql_expr_test"]]
    firing = {
        name
        for test in expected
        for sample in test.get("exp_samples", ())
        for name in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    assert firing == set(RULES)
    quiet = [test for test in expected if "exp_samples" not in test]
    assert len(quiet) >= len(RULES)


def test_every_panel_explains_itself():
    """With a title, a description, a unit, and the data source that was chosen."""
    variable = DASHBOARD["templating"]["list"][0]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    chosen = {"type": "prometheus", "uid": f"${{{variable['name']}}}"}
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        assert all(part["datasource"] == chosen for part in [panel, *panel["targets"]])
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_every_query_is_for_the_servers_that_are_chosen():
    """One, some or all of them."""
    for query in QUERIES:
        [expr] = query.values
        metrics = re.findall(r"\brecoup_\w+", expr)
        assert metrics
        assert len(metrics) == len(re.findall(r'\brecoup_\w+{[^}]*instance=~"\$instance"}', expr))


def test_no_panel_lies_on_another():
    """Each place of the grid has one at the most."""
    places = [
        (x, y)
        for at in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "prometheus-alerts.yml"],
        ["test", "rules", "prometheus-alerts.test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_approves(command):
    """The files are right, and the rules fire when they should and not otherwise."""
    result = subprocess.run([find("promtool"), *command], cwd=OPS, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


class Prometheus:
    """A real Prometheus that scrapes a server each second, with the shipped configuration."""

    def __init__(self, folder, target):
        self.url = f"http://127.0.0.1:{free_port()}"
        config = (OPS / "prometheus.yml").read_text()
        config = config.replace("127.0.0.1:8000", target).replace("15s", "1s")
        (folder / "prometheus.yml").write_text(config)
        (folder / "prometheus-alerts.yml").write_text(ALERTS)
        self._folder = folder

    def __enter__(self):
        command = [find("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
        address = self.url.removeprefix("http://")
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"--web.listen-address={address}"],
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()

    def get(self, path, **params):
        """Return the data of an answer of its API, None while it isn't ready."""
        try:
            answer = requests.get(f"{self.url}/api/v1/{path}", params=params, timeout=SECONDS)
        except requests.ConnectionError:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            return None
        return answer.json()["data"] if answer.status_code != 503 else None

    def values(self, query):
        """Return the numbers that a query yields now."""
        data = self.get("query", query=query)
        numbers = [float(sample["value"][1]) for sample in data["result"]] if data else []
        return [number for number in numbers if not math.isnan(number)]


def delete_all_ways(server, world, standin):
    """Let deletions succeed, with a schedule and without, and fail, and leave a mark."""
    owner = world.account()
    key = world.key(owner)
    missing = world.task(owner, schedule=False, trigger_schedule_id="sched_gone")
    for task in (missing, world.task(owner), world.task(owner)):
        assert server.delete(task, key).status_code == 200
    standin.fail(Fault.status(401))
    assert server.delete(world.task(owner), key).status_code == 500
    world.place_mark(world.task(owner), lease_seconds=110)


@pytest.fixture(name="prometheus", scope="module")
def _prometheus(tmp_path_factory):
    """A Prometheus that has seen deletions of a server with two workers."""
    find("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    url = f"sqlite:///{folder}/recoup.sqlite3"
    with StandIn() as standin:
        world = World(create_app(make_config(url, TRIGGER_API_URL=standin.url)), standin)
        upgrade()
        with (
            Server(url, TRIGGER_API_URL=standin.url) as server,
            Prometheus(folder, server.url.removeprefix("http://")) as prometheus,
        ):
            wait_for(lambda: prometheus.values("recoup_marks"))
            delete_all_ways(server, world, standin)
            close_database()
            yield prometheus


@pytest.mark.parametrize("query", QUERIES)
def test_every_panel_shows_data_of_a_real_prometheus(prometheus, query):
    """The panels' very queries, over the seconds that the test has instead of Grafana's hours."""
    query = query.replace("$__rate_interval", "1m").replace("$__range", "5m")
    query = query.replace("$instance", ".*")
    assert "$" not in query
    wait_for(lambda: prometheus.values(query), query)


def test_what_the_panels_show_is_what_happened(prometheus):
    """Counted over all workers, and scraped right."""
    for query, value in {
        'recoup_deletion_seconds_count{outcome="deleted"}': 3,
        'recoup_deletion_seconds_count{outcome="kept"}': 1,
        'recoup_cancel_attempts_total{status="404"}': 2,
        'recoup_cancel_attempts_total{status="401"}': 1,
        "recoup_schedules_missing_total": 1,
        "recoup_marks": 1,
        "recoup_database_up": 1,
        "recoup_guard": 1,
        "sum(recoup_refusals_total)": 0,
        "recoup_places": 112,
        "recoup_places_in_use": 0,
    }.items():
        wait_for(lambda query=query, value=value: prometheus.values(query) == [value], query)


def test_the_servers_to_choose_from_are_those_that_are_scraped(prometheus):
    """As Grafana asks for the values of the variable."""
    variable = DASHBOARD["templating"]["list"][1]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()
    assert variable["query"]["query"] == variable["definition"]
    wait_for(lambda: prometheus.values(metric), metric)
    [instance] = prometheus.get(f"label/{label}/values", **{"match[]": metric})
    assert instance.startswith("127.0.0.1:")


def test_a_real_prometheus_evaluates_the_alerts(prometheus):
    """All of them, and without an error."""

    def evaluated():
        [group] = prometheus.get("rules")["groups"]
        return group["rules"] if all(rule["health"] == "ok" for rule in group["rules"]) else None

    rules = wait_for(evaluated)
    assert [rule["name"] for rule in rules] == list(RULES)
    assert all(rule["annotations"]["runbook_url"] for rule in rules)
