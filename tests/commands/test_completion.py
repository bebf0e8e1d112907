"""Shell completion, as `docs/commands.md` sets it up, in real shells on a terminal."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.commands.programs import converse
from tests.forked import BIN

DOCS = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
PROMPT = b"ready> "
CLEAR_LINE = b"\x15"


def find_zsh():
    """Return the path of zsh, or skip the test."""
    path = shutil.which("zsh")
    if path is None:
        required = os.environ.get("RECOUP_REQUIRE_ZSH") == "1"
        (pytest.fail if required else pytest.skip)("no zsh; `apt-get install zsh` brings it")
    return path


SHELLS = {
    "bash": lambda: ["bash", "--norc", "--noprofile", "-i"],
    "zsh": lambda: [find_zsh(), "-f", "-i"],
}


def documented(shell):
    """Return the lines that the docs say to put into the shell's start-up file."""
    [block] = re.findall(rf"((?:    .+\n)*    .*{shell}_source.*\n)", DOCS.read_text())
    return "; ".join(line.strip() for line in block.splitlines()).encode()


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_commands_and_options(shell, tmp_path):
    """With what the docs say to set, and nothing else; no setting is needed."""
    steps = (
        (PROMPT, documented(shell) + b"; echo status=$?\n"),
        (b"status=0", b""),
        (PROMPT, b"recoup tasks rest\t"),
        (b"restore-schedules", CLEAR_LINE + b"recoup tasks reconcile --f\t"),
        (b"--fix", CLEAR_LINE + b"recoup keys \t\t"),
        (b"revoke", CLEAR_LINE + b"exit\n"),
    )
    environ = {"PATH": f"{BIN}:{os.defpath}", "PS1": PROMPT.decode(), "HOME": str(tmp_path)}
    script = tmp_path / "become_the_shell.py"
    script.write_text("import os, sys\nos.execvp(sys.argv[1], sys.argv[1:])\n")
    code, shown = converse([str(script), *SHELLS[shell]()], *steps, **environ)
    assert code == 0, shown
    assert re.search(r"create\b.*\blist\b.*\brevoke", shown, re.DOTALL)
    assert "Error" not in shown
