"""What `recoup` and `python -m recoup` say of themselves: help, and which version they are."""

import re

import pytest
from click.testing import CliRunner

from recoup import __version__
from recoup.commands.main import main
from recoup.config import SETTINGS
from tests.commands.programs import SECRETS

PYTHON_M_RECOUP = ["python", "-m", "recoup"]


def help_paths(group, *path):
    """Yield the words of every group and command."""
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from help_paths(command, *path, name)


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("path", list(help_paths(main)), ids=" ".join)
def test_help_needs_no_settings(path, option, monkeypatch, tmp_path):
    """Each command says what it does before anything is set."""
    for name in [*SECRETS, "DATABASE_URL"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "false")  # flask sets it, and leaves it set
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [*path, option], prog_name="recoup")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: {' '.join(('recoup', *path))} ")
    _, _, summaries = result.stdout.partition("Commands:")
    assert "..." not in summaries  # each has room on its line


def test_help_works_as_a_process(run):
    """With nothing set at all; only our own commands and options are shown."""
    code, stdout, stderr = run("recoup", "--help")
    assert (code, stderr) == (0, "")
    commands = ["config", "db", "doctor", "keys", "tasks"]
    assert re.findall(r"^  (\w+)  ", stdout, re.MULTILINE) == commands
    assert re.findall(r"--[\w-]+", stdout) == ["--account", "--version", "--help"]


def test_the_version_is_the_one_that_runs(run, client):
    """The commands, the service and the description of its API agree."""
    for command in (["recoup"], PYTHON_M_RECOUP):
        assert run(*command, "--version") == (0, f"recoup {__version__}\n", "")
    assert client.get("/healthz").json["version"] == __version__
    assert client.get("/openapi.json").json["info"]["version"] == __version__


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_python_m_recoup_says_what_it_does(run, tmp_path, option):
    """It serves or is a demo, takes these settings, and isn't what an operator looks for."""
    code, stdout, stderr = run(*PYTHON_M_RECOUP, option)
    assert (code, stderr) == (0, "")
    assert stdout.startswith("Usage: python -m recoup ")
    text = " ".join(stdout.split())
    assert "Without TRIGGER_SECRET_KEY it runs a demo" in text
    assert "`recoup --help` has the commands" in text
    assert all(name in text for name in SETTINGS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argument", ["serve", "--port", "-x"])
def test_python_m_recoup_refuses_what_it_does_not_know(run, tmp_path, argument):
    """Whatever was meant, it would not be done."""
    code, stdout, stderr = run(*PYTHON_M_RECOUP, argument, **SECRETS)
    assert (code, stdout) == (2, "")
    assert argument in stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
