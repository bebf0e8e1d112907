"""The content of the image serves with only what a container has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from recoup.app import create_app
from recoup.database.migrations import upgrade
from tests.conftest import close_database, make_config
from tests.deployment.container import Container, build, environment, instruction, why_not
from tests.factories import World

pytestmark = pytest.mark.xdist_group("container")

SECONDS = 60


@pytest.fixture(name="image", scope="module")
def _image(tmp_path_factory):
    return build(tmp_path_factory.mktemp("container"))


@pytest.fixture(name="start")
def _start(image, tmp_path, standin):
    """Return a function that makes a container, with a database on its volume."""
    if reason := why_not():
        pytest.skip(reason)

    def start(*, shared_memory=True):
        return Container(image, tmp_path, shared_memory, TRIGGER_API_URL=standin.url)

    return start


@pytest.fixture(name="world")
def _world(tmp_path, standin):
    world = World(create_app(make_config(f"sqlite:///{tmp_path}/recoup.sqlite3")), standin)
    upgrade()
    yield world
    close_database()


def status(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def writable(pid):
    """Return the places that a process may write to."""
    places = ("/", "/mnt/image", "/mnt/data", "/dev", "/dev/shm", "/tmp")
    inside = {place: f"/proc/{pid}/root{place}" for place in places}
    return [place for place, path in inside.items() if os.path.exists(path) and not read_only(path)]


def read_only(path):
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


@pytest.mark.parametrize("shared_memory", [True, False], ids=["64 MiB", "none"])
def test_it_serves_from_a_file_system_that_is_read_only(start, world, shared_memory):
    """As PID 1, with a user that has no name, no home, and with shared memory or without."""
    owner = world.account()
    key = world.key(owner)
    first, second = world.task(owner), world.task(owner)
    with start(shared_memory=shared_memory) as container:
        process = status(container.pid())
        places = ["/mnt/data", *(["/dev/shm"] if shared_memory else []), "/tmp"]
        assert process["NSpid"].split()[-1] == "1"
        assert int(process["CapEff"], 16) == 0
        assert writable(container.pid()) == places
        assert requests.get(f"{container.url}/readyz", timeout=SECONDS).status_code == 200
        assert container.delete(first, key).status_code == 200
        container.kill_worker(container.workers()[0])
        container.wait_until_ready()
        assert container.delete(second, key).status_code == 200
        counted = requests.get(f"{container.url}/metrics", timeout=SECONDS).text
        assert 'recoup_deletion_seconds_count{outcome="deleted"} 2.0' in counted
        container.stop()
        assert container.exit_code() == 0
        assert "Traceback" not in container.stderr()


def health_check(port):
    """Run the `Dockerfile`'s, and return its exit code."""
    _, _, command = instruction("HEALTHCHECK").partition(" CMD ")
    program, *arguments = json.loads(command)
    assert program == "python"
    command = [sys.executable, *arguments]
    return subprocess.run(command, env={"PORT": str(port)}, capture_output=True).returncode


def test_the_health_check_tells_up_from_down(start, world):
    """By its exit code, and without a shell or another program in the image."""
    with start() as container:
        assert health_check(container.port) == 0
        container.stop()
        assert health_check(container.port) == 1


def test_no_settings_get_into_the_image(image):
    """A `.env` beside the code is not let in."""
    there = {path.name for path in image.iterdir()}
    assert there == {"gunicorn.conf.py", "wsgi.py", "packages"}
    assert set(environment()) == {"PATH", "PORT", "TMPDIR"}


def test_the_images_user_is_not_root():
    """And has a number, by which Kubernetes can tell."""
    assert int(instruction("USER")) > 0
