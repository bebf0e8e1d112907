"""`make` finds a Python that is new enough, or says what it found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
# It says that it is 3.9.2, whatever it is asked to run.
OLD = f"""#!/bin/sh
exec {sys.executable} -c 'import sys
sys.version_info = (3, 9, 2)
sys.version = "3.9.2 (default)"
sys.executable = "/opt/python3"
exec(sys.argv[1])' "$2"
"""


@pytest.fixture(name="make")
def _make(tmp_path):
    """Run `make .venv/python` with no other program than a few, some of them made up."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "touch"):
        (programs / name).symlink_to(shutil.which(name))
    shutil.copy(REPOSITORY / "Makefile", tmp_path)

    def run(*options, **scripts):
        for name, text in scripts.items():
            (programs / name.replace("_", ".")).write_text(text)
            (programs / name.replace("_", ".")).chmod(0o755)
        return subprocess.run(
            [shutil.which("make"), *options, ".venv/python"],
            cwd=tmp_path,
            env={"PATH": str(programs)},
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize("newer", ["python3_11", "python3_12", "python3_14"])
def test_an_older_python3_in_front_of_a_newer_is_passed_over(make, newer):
    """The newer is taken by its own name."""
    made = make("-n", python3=OLD, **{newer: "#!/bin/sh\n"})
    assert f"{newer.replace('_', '.')} -m venv .venv" in made.stdout


def test_a_name_with_no_python_behind_it_is_passed_over(make):
    """As pyenv's shims are, where the version isn't chosen."""
    made = make("-n", python3_11="#!/bin/sh\nexit 127\n", python3_12="#!/bin/sh\n", python3=OLD)
    assert "python3.12 -m venv .venv" in made.stdout


def test_where_all_are_too_old_the_message_names_what_was_found(make):
    """Which program, which version, and how to name another."""
    made = make(python3=OLD)
    assert made.returncode == 2
    assert made.stderr.startswith(
        "Python 3.11 or later is needed; /opt/python3 is 3.9.2. Name another: make PYTHON=...\n"
    )


def test_a_python_that_is_named_is_checked_too(make, tmp_path):
    """The setting is taken as it is."""
    made = make("PYTHON=mine", mine=OLD)
    assert "/opt/python3 is 3.9.2" in made.stderr
    assert not Path(tmp_path, ".venv").exists()
