"""What processes count together: nothing is lost if one dies, and nothing fills up."""

import subprocess
import sys

from recoup.counts import MOST_SERIES, Counts

SECONDS = 60

# A process of its own, as a fork takes along whatever threads the tests have.
PREAMBLE = """
import os, signal
from threading import Thread
from recoup.counts import counts

def fork(row, work):
    pid = os.fork()
    if pid == 0:
        counts.take_row(row)
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    return pid
"""


def run(script):
    """Run it; return what it prints."""
    command = [sys.executable, "-c", PREAMBLE + script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    return result.stdout.splitlines()


def test_a_process_that_is_killed_takes_nothing_with_it():
    """Three hundred in turn count in one row, which has as many series at the end as at first."""
    assert run("""
for number in range(300):
    os.waitpid(fork(1, lambda: counts.add(("calls", str(number % 2)))), 0)
print(*sorted(counts.totals().items()), sep="\\n")
print(sum(1 for _ in counts._read(1)))
""") == ["(('calls', '0'), 150.0)", "(('calls', '1'), 150.0)", "2"]


def test_processes_and_their_threads_count_at_the_same_time():
    """None waits for another process, and none overwrites what another has counted."""
    assert run("""
def count():
    for _ in range(1000):
        counts.add(("calls",))

def work():
    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()

for pid in [fork(row, work) for row in range(1, 9)]:
    os.waitpid(pid, 0)
print(counts.totals()[("calls",)])
""") == ["32000.0"]


def test_a_series_more_than_there_is_room_for_is_not_counted():
    """Those that are there count on."""
    counts = Counts()
    for _ in range(2):
        for number in range(MOST_SERIES + 1):
            counts.add(("calls", str(number)))
    assert counts.totals() == {("calls", str(number)): 2 for number in range(MOST_SERIES)}


def test_a_label_that_is_too_long_is_cut():
    """It can neither fail a count nor a scrape, even in the middle of a letter."""
    counts = Counts()
    counts.add(("calls", "é" * 500))
    [(name, label)] = counts.totals()
    assert (name, label[:50]) == ("calls", "é" * 50)


def test_counting_costs_no_process_another_ones_numbers():
    """Each server has memory of its own, that no other can find."""
    one, other = Counts(), Counts()
    one.add(("calls",))
    assert (one.totals(), other.totals()) == ({("calls",): 1}, {})
