"""What is explored: by each run of the suite, and by `make model`."""

from itertools import product

from tests.model.explorer import Scope
from tests.model.programs import PROGRAMS
from tests.model.state import FOREIGN
from tests.model.world import OTHER_KEY

LOST_ID = Scope("", named=None)
STALE_ID = Scope("", named="sched_gone")
TWO_SCHEDULES = Scope("", named="sched_host", alive=("sched_first", "sched_host"))
ANOTHERS = Scope("", named=FOREIGN)
PAUSED = Scope("", named=None, alive=())
WRONG_KEY = Scope("", key=OTHER_KEY)
BEGINNINGS = (LOST_ID, STALE_ID, TWO_SCHEDULES, ANOTHERS, PAUSED, WRONG_KEY)

SMALL = [
    Scope("d", faults=2, crashes=1),
    Scope("dd", faults=1),
    Scope("dr", crashes=1, leases=2),
    Scope("dl", faults=2, leases=2, ages=2),
    *(Scope("d", (name,), faults=1, crashes=1) for name in PROGRAMS),
    *(scope._replace(actors="d", faults=1, crashes=1) for scope in BEGINNINGS),
    PAUSED._replace(actors="d", others=("makes_a_schedule",), faults=1, crashes=1),
    Scope("dr", ("deletes_the_row", "makes_the_row_again"), crashes=1),
    Scope("s", ("deletes_the_row",), faults=2, crashes=1),
    Scope("d", ("names_a_new_schedule", "deletes_the_row"), faults=1),
]
LARGE = [
    Scope("ddr", faults=1, crashes=1),
    Scope("ddr", faults=1, leases=2),
    Scope("ddr", crashes=1, leases=2),
    Scope("dl", faults=3, crashes=1, leases=2, ages=2),
    Scope("ds", faults=2, crashes=1, leases=2, ages=2),
    *(Scope("dr", (name,), faults=1, crashes=1, leases=2) for name in PROGRAMS),
    *(Scope("dl", (name,), faults=2, crashes=1, leases=2, ages=2) for name in PROGRAMS),
    *(Scope("dd", (name,), faults=1) for name in PROGRAMS),
    *(
        scope._replace(actors=actors, faults=1, crashes=1, leases=2)
        for actors, scope in product(("dr", "ds", "dd"), BEGINNINGS)
    ),
    Scope("d", ("names_a_new_schedule", "replaces", "makes_a_schedule"), faults=2),
    Scope("ds", ("names_a_new_schedule", "deletes_the_row"), faults=1),
    Scope("ds", ("deletes_the_row", "makes_the_row_again"), faults=1),
    Scope("ds", ("deletes_the_row", "makes_the_row_again"), crashes=1),
    Scope("ss", ("deletes_the_row", "makes_the_row_again"), faults=1, crashes=1),
    PAUSED._replace(actors="ds", others=("makes_a_schedule",), faults=1, crashes=1),
    PAUSED._replace(actors="s", others=("makes_a_schedule", "deletes_the_row"), faults=2, ages=2),
]
