"""The manifests for Kubernetes and the unit for systemd agree with the service, and each other."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recoup.app import create_app
from recoup.commands.main import main
from tests.conftest import make_config
from tests.deployment.container import environment, instruction
from tests.server import REPOSITORY

OPS = REPOSITORY / "ops"
FILES = sorted((OPS / "kubernetes").glob("*.yml"))
MANIFESTS = {
    manifest["kind"]: manifest
    for file in FILES
    for manifest in yaml.safe_load_all(file.read_text())
}
PODS = {kind: MANIFESTS[kind]["spec"]["template"] for kind in ("Deployment", "Job")}
POD = PODS["Deployment"]["spec"]
[CONTAINER] = POD["containers"]
UNIT = OPS / "recoup.service"


@pytest.fixture(name="graceful_timeout", scope="module")
def _graceful_timeout():
    """What `gunicorn.conf.py` makes of the default settings, in seconds."""
    environ = {"TRIGGER_SECRET_KEY": "tr_dev_x", "PRIVY_PROJECT_SECRET": "x"}
    command = [sys.executable, "-m", "gunicorn", "--print-config"]
    return settings(command, environ)["graceful_timeout"]


def settings(command, environ):
    """Return gunicorn's settings, numbers as such."""
    output = subprocess.check_output(command, cwd=REPOSITORY, env=environ, text=True)
    pairs = [line.split("=", 1) for line in output.splitlines() if "=" in line]
    return {name.strip(): int(value) for name, value in pairs if value.strip().isdigit()}


def test_there_is_all_that_the_page_names():
    """Each kind once."""
    assert sorted(MANIFESTS) == [
        "Deployment", "HTTPRoute", "Job", "PodDisruptionBudget", "Service",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", PODS)
def test_a_pod_has_no_more_rights_than_it_uses(kind):
    """No root, no writing, no token of the cluster; and no environment but what it is given."""
    spec = PODS[kind]["spec"]
    [container] = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_all_pods_run_one_image():
    """The job's tables are those that the service knows."""
    assert len({spec["spec"]["containers"][0]["image"] for spec in PODS.values()}) == 1


def test_the_probes_ask_what_the_service_answers(sqlite_url):
    """Liveness needs no database, and readiness does."""
    client = create_app(make_config(sqlite_url)).test_client()
    paths = [CONTAINER[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")]
    assert paths == ["/healthz", "/readyz"]
    assert [client.get(path).status_code for path in paths] == [200, 200]


def test_liveness_waits_out_an_outage_of_trigger():
    """`docs/sizing.md` says how long `/healthz` may then wait in the queue."""
    sizing = (REPOSITORY / "docs" / "sizing.md").read_text()
    longest = max(map(float, re.findall(r"\| ([\d.]+) s \|$", sizing, re.MULTILINE)))
    assert CONTAINER["livenessProbe"]["timeoutSeconds"] > 1.5 * longest


def test_the_ports_lead_from_the_route_to_the_process():
    """By number, by name, and by label."""
    [service_port] = MANIFESTS["Service"]["spec"]["ports"]
    [container_port] = CONTAINER["ports"]
    assert str(container_port["containerPort"]) == environment()["PORT"]
    assert instruction("EXPOSE").strip() == environment()["PORT"]
    assert PODS["Deployment"]["metadata"]["annotations"]["prometheus.io/port"] == "8000"
    assert service_port["targetPort"] == container_port["name"]
    ours, _ = MANIFESTS["HTTPRoute"]["spec"]["rules"]
    assert ours["backendRefs"] == [{"name": "recoup", "port": service_port["port"]}]
    assert MANIFESTS["Service"]["metadata"]["name"] == "recoup"
    labels = PODS["Deployment"]["metadata"]["labels"]
    assert MANIFESTS["Service"]["spec"]["selector"] == labels
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert MANIFESTS[kind]["spec"]["selector"]["matchLabels"] == labels
    assert PODS["Job"]["metadata"]["labels"] != labels


def test_only_the_delete_of_a_task_is_routed_to_us():
    """All else goes where it went."""
    ours, theirs = MANIFESTS["HTTPRoute"]["spec"]["rules"]
    path = {"type": "Exact", "value": "/api/tasks"}
    assert ours["matches"] == [{"path": path, "method": "DELETE"}]
    assert "matches" not in theirs


def test_whoever_stops_it_waits_until_all_is_answered(graceful_timeout):
    """Kubernetes after its pause, systemd, and Docker with the documented command."""
    pause = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert POD["terminationGracePeriodSeconds"] > pause + graceful_timeout
    assert f"TimeoutStopSec={graceful_timeout + 15}\n" in UNIT.read_text()
    docker = (REPOSITORY / "docs" / "docker.md").read_text()
    assert f"--stop-timeout {graceful_timeout + 15} " in docker


def test_a_longer_keepalive_can_be_asked_for():
    """For a load balancer that holds on to its connections, and can't be told otherwise."""
    environ = {
        "TRIGGER_SECRET_KEY": "tr_dev_x",
        "PRIVY_PROJECT_SECRET": "x",
        "GUNICORN_CMD_ARGS": "--keep-alive=75",
    }
    command = [sys.executable, "-m", "gunicorn", "--print-config"]
    assert settings(command, environ)["keepalive"] == 75


def test_the_upgrade_is_a_command_that_is_there(sqlite_url):
    """As the job has it."""
    command = PODS["Job"]["spec"]["containers"][0]["command"]
    assert command[0] == "recoup"
    runner = create_app(make_config(sqlite_url)).test_cli_runner()
    assert runner.invoke(main, command[1:]).exit_code == 0


def test_systemd_approves_of_the_unit(tmp_path):
    """With the programs that it starts where they are on this machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze; Debian's package is `systemd`")
    programs = Path(sys.executable).parent
    text = UNIT.read_text().replace("/opt/recoup/.venv/bin", str(programs))
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/recoup", str(REPOSITORY)))
    result = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
