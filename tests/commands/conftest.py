"""Fixtures that run commands: in this process, or in one of their own."""

import os
import subprocess

import pytest

from recoup.commands.main import main
from tests.commands.programs import BIN, SECONDS


@pytest.fixture
def recoup(app):
    """Run a command in this process: `recoup("keys", "revoke", "x")`."""

    def invoke(*args):
        return app.test_cli_runner().invoke(main, args)

    return invoke


@pytest.fixture
def start(tmp_path):
    """Start a program of ours in an empty folder, with no environment but what is given."""
    started = []

    def popen(*command, **environ):
        process = subprocess.Popen(
            [BIN / command[0], *command[1:]],
            env={"PATH": os.defpath, **environ},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(start):
    """Run a program of ours to its end; return its exit code, stdout and stderr."""

    def finish(*command, **environ):
        process = start(*command, **environ)
        stdout, stderr = process.communicate(timeout=SECONDS)
        assert "Traceback" not in stdout + stderr
        return process.returncode, stdout, stderr

    return finish
