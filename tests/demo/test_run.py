"""The demo as a newcomer has it: what it prints is pasted into a shell, and it is ended."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from recoup.demo.introduction import introduce
from recoup.web.schemas import EXAMPLE_ID
from tests.postgres import free_port
from tests.waiting import wait_for

pytestmark = pytest.mark.xdist_group("demo")

REPOSITORY = Path(__file__).parents[2]
SECONDS = 60
wait_until = partial(wait_for, seconds=SECONDS)
PASTED = ("curl", "sh", "python")


class Demo:
    """`python -m recoup`, on a port and with a folder for temporary files of its own.

    *text* is what it has printed.
    """

    def __init__(self, folder: Path, port: int, **environ: str) -> None:
        self.folder = folder
        self.port = port
        self._printed = folder.with_suffix(".out")
        folder.mkdir()
        with self._printed.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "recoup"],
                cwd=REPOSITORY,
                env={
                    "PATH": os.defpath,
                    "TMPDIR": str(folder),
                    "PORT": str(port),
                    "TRIGGER_SECRET_KEY": "",  # whatever a `.env` there says
                    **environ,
                },
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self._printed.read_text()

    def wait(self) -> "Demo":
        """Wait until it is introduced."""
        wait_until(lambda: "Or paste" in self.text or self.process.poll() is not None)
        assert self.process.poll() is None, self.text
        return self

    def lines(self) -> list[str]:
        """Return the lines to paste."""
        introduction = self.text.partition("This is a DEMO")[2]
        return [
            line
            for line in introduction.splitlines()
            if line.startswith(PASTED) or line.startswith(sys.executable)
        ]

    def paste(self, *words: str) -> str:
        """Run the one line that has these words in it, in a shell; return what it prints."""
        [line] = {line for line in self.lines() if all(word in line for word in words)}
        return run(line)

    def left_over(self) -> list[str]:
        """Return what lives on of it, be it a process or a file."""
        return [*self.processes(), *(path.name for path in self.folder.iterdir())]

    def processes(self) -> list[str]:
        """Return the ids of its processes, which all have its `TMPDIR`."""
        mark = f"TMPDIR={self.folder}\0".encode()
        return [
            path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if has(path, mark)
        ]


def has(path: Path, text: bytes) -> bool:
    try:
        return text in path.read_bytes()
    except OSError:
        return False


def run(line: str, shell: str = "sh") -> str:
    """Run a line in a shell; return what it prints."""
    done = subprocess.run([shell, "-c", line], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(name="demo", scope="module")
def _demo(tmp_path_factory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("newcomer") / "here", free_port()).wait()
    yield demo
    demo.process.terminate()
    demo.process.wait(SECONDS)


@pytest.fixture(name="start")
def _start(tmp_path) -> Iterator[Callable[..., Demo]]:
    """Start a demo of the test's own, which ends with it."""
    started = []

    def start(port: int, **environ: str) -> Demo:
        started.append(Demo(tmp_path / f"demo{len(started)}", port, **environ))
        return started[-1]

    yield start
    for demo in started:
        demo.process.kill()
        demo.process.wait()


def find_shell(name: str) -> str:
    """Return the path of a shell; where zsh is not installed, the test is skipped."""
    path = shutil.which(name)
    if path is None:
        required = name != "zsh" or os.environ.get("RECOUP_REQUIRE_ZSH") == "1"
        (pytest.fail if required else pytest.skip)(f"no {name}; `apt-get install {name}` brings it")
    return path


def schedules(demo: Demo) -> set[str]:
    """Return the tasks whose schedules are left."""
    found = json.loads(demo.paste("/api/v1/schedules"))["data"]
    return {schedule["externalId"] for schedule in found}


def task_of(line: str) -> str:
    return re.findall(r"[0-9a-f-]{36}", line)[-1]


def deletions(demo: Demo) -> list[str]:
    return [line for line in demo.lines() if "-X DELETE" in line]


def failing(demo: Demo, how: str) -> str:
    """Return the line that lets Trigger.dev fail in that way."""
    return next(line for line in demo.lines() if f"-d {how} " in line)


def recover(demo: Demo) -> None:
    """Do at once what a worker's sweep does within half a minute."""
    line = next(line for line in demo.lines() if line.endswith("tasks reconcile"))
    run(line.replace("reconcile", "recover"))


def make_doubts_old(demo: Demo) -> int:
    """Let there have been doubt for long; return of how many deletions."""
    [database] = demo.folder.glob("*/demo.sqlite3")
    connection = sqlite3.connect(database, timeout=SECONDS, isolation_level=None)
    statement = "UPDATE task_deletions SET doubtful_since = ? WHERE doubtful_since IS NOT NULL"
    try:
        return connection.execute(statement, ["2020-01-01T00:00:00.000000Z"]).rowcount
    finally:
        connection.close()


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh"])
def test_each_line_is_the_same_to_every_shell(demo, shell):
    """No shell finds a pattern, a comment or a variable in what is to be pasted."""
    for line in demo.lines():
        words = run(f"""set -- {line}; printf '%s\\n' "$@" """, find_shell(shell))
        assert words.splitlines() == shlex.split(line)


def test_a_path_with_blanks_is_one_word(monkeypatch, standin):
    """Wherever the repository and the temporary files are."""
    monkeypatch.setattr(sys, "executable", "/a folder/python")
    lines = introduce(8000, "/another folder", standin).splitlines()
    by_hand, doctor = (shlex.split(x) for x in lines if "sqlite3" in x or x.endswith("doctor"))
    assert by_hand[0] == "/a folder/python"
    assert "'/another folder/demo.sqlite3'" in by_hand[2]
    assert doctor == ["sh", "/another folder/recoup", "doctor"]


def test_the_text_fits_80_columns_and_names_docs_and_spare_tasks(demo):
    """What isn't to be pasted isn't wrapped, and each task is named once, or is the example's."""
    introduction = demo.text.partition("This is a DEMO")[2].partition("\nMore tasks")[0]
    pasted = demo.lines()
    assert all(len(line) <= 80 for line in introduction.splitlines() if line not in pasted)
    assert f"http://127.0.0.1:{demo.port}/docs" in introduction
    named = {task_of(line) for line in deletions(demo)}
    spare = set(re.findall(r"[0-9a-f-]{36}", demo.text.partition("More tasks")[2])) & schedules(
        demo
    )
    assert len(spare) >= 2
    assert not spare & named
    assert EXAMPLE_ID not in named | spare
    assert EXAMPLE_ID in schedules(demo)


def test_a_task_goes_with_its_schedule_and_then_is_no_more(demo):
    """The first line: 200, and 404 when it is pasted again."""
    line = deletions(demo)[0]
    assert task_of(line) in schedules(demo)
    assert " 200 " in run(line)
    assert task_of(line) not in schedules(demo)
    assert " 404 " in run(line)


def test_a_refusal_keeps_the_task_until_trigger_dev_is_well(demo):
    """500, and the schedule is there; half a minute later, or told to be well, it is deleted."""
    line = deletions(demo)[1]
    assert "refuses" in run(failing(demo, "refuse"))
    assert "the task was kept" in run(line)
    assert task_of(line) in schedules(demo)
    assert "well" in run(
        next(x for x in demo.lines() if "-d refuse" in x).replace("refuse", "well")
    )
    assert " 200 " in run(line)


def test_a_lost_answer_is_a_doubt_that_settles(demo):
    """500 with the schedule gone and the row kept; a minute later a look completes the deletion."""
    line = deletions(demo)[2]
    assert "lost" in run(failing(demo, "lost"))
    assert "may have been cancelled" in run(line)
    assert task_of(line) not in schedules(demo)
    run(failing(demo, "lost").replace("lost", "well"))
    assert make_doubts_old(demo) == 1
    recover(demo)
    wait_until(lambda: make_doubts_old(demo) == 0)
    assert " 404 " in run(line)


def test_a_row_deleted_by_hand_takes_its_schedule_along(demo):
    """The line makes the guard's record, and the next sweep or `tasks recover` collects it."""
    line = next(line for line in demo.lines() if "scheduled_actions" in line)
    assert task_of(line) in schedules(demo)
    run(line)
    recover(demo)
    wait_until(lambda: task_of(line) not in schedules(demo))


def test_the_operators_commands_work_beside_it(demo):
    """`doctor` finds nothing wrong with the demo, and `reconcile` compares what is there."""
    checks = demo.paste("doctor")
    assert "Trigger.dev: reachable" in checks
    assert "wrong" not in checks
    assert "compared" in demo.paste("reconcile")


def test_the_stand_in_says_how_it_can_fail(demo):
    """A word that it doesn't know is answered with those that it does."""
    assert (
        run(failing(demo, "refuse").replace("refuse", "burn"))
        == "Say how: refuse, hang, lost or well.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_when_it_is_ended(start, number):
    """Ctrl-C, a stop and the terminal's end are all no failure, and leave no file or process."""
    demo = start(free_port()).wait()
    assert demo.left_over()
    demo.process.send_signal(number)
    assert demo.process.wait(SECONDS) == 0
    wait_until(lambda: not demo.left_over())


def test_nothing_lives_on_when_it_is_killed(start):
    """After a SIGKILL, which it can't act upon, the server ends and the folder goes."""
    demo = start(free_port()).wait()
    assert len(demo.processes()) > 3
    demo.process.kill()
    demo.process.wait()
    wait_until(lambda: not demo.left_over())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", demo.port), timeout=SECONDS)


def test_a_taken_port_names_a_free_one(start):
    """One line, with what to type instead; nothing is left."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        demo = start(port)
        assert demo.process.wait(SECONDS) == 1
    match = re.fullmatch(
        rf"Error: port {port} is taken; (\d+) is free: PORT=\1 make run\n", demo.text
    )
    assert match, demo.text
    assert int(match[1]) != port
    assert demo.left_over() == []


def test_what_is_configured_is_neither_used_nor_handed_on(start):
    """A database and a proxy of the environment stay out of it."""
    demo = start(
        free_port(),
        DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
        http_proxy="http://127.0.0.1:1",
        RECOUP_ORG_ID="none",
    ).wait()
    assert "database: reachable" in demo.paste("doctor")
