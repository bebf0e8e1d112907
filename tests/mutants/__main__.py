"""Look for mutants that no test notices.

    python -m tests.mutants [recoup/deletion/staged.py …]

First the tests run once, to see which of them run which line. Then a child of this process becomes
each mutant and runs the tests of its line, the quickest first, until one fails. Prints the mutants
that no test noticed, and for each file the share that was noticed.

It is no gate. Some mutants change nothing that counts. And only tests that run the code in their
own process are tried, not those that start the service as a program.
"""

import tempfile
from pathlib import Path

import click
import pytest

from tests.mutants.hunt import Hunt
from tests.mutants.traced import trace

CORE = (
    "recoup/deletion/*.py recoup/trigger/answers.py recoup/trigger/cancel*.py"
    " recoup/trigger/route.py recoup/http/deadline.py recoup/database/statements.py"
    " recoup/database/*queries.py recoup/database/orphans.py recoup/database/connection.py"
)
TESTS = (
    "tests/deletion tests/trigger tests/http tests/database tests/model tests/auth"
    " tests/commands/test_delete.py tests/test_log.py tests/test_metrics.py tests/web/test_tasks.py"
)
# They start programs, use the whole server of Postgres, or take long for what others try too.
LEFT_OUT = (
    "deletion/test_death deletion/test_torture deletion/test_concurrency deletion/test_faults"
    " deletion/test_histories database/test_failures database/test_faults database/test_guard"
    " database/test_migrations database/test_plans database/test_pool database/test_prepare"
    " database/test_readiness trigger/test_rehearsal"
)


@click.command()
@click.argument("files", nargs=-1)
@click.option(
    "--traced",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A folder for the first run's result, which later calls then take from there.",
)
def main(files: tuple[str, ...], traced: Path | None) -> None:
    """Look for mutants of FILES, or of the core, that no test notices."""
    left_out = [f"--ignore=tests/{name}.py" for name in LEFT_OUT.split()]
    arguments = [*TESTS.split(), *left_out, "-q", "-p", "no:cacheprovider"]
    paths = [path for text in files or CORE.split() for path in sorted(Path().glob(text))]
    with tempfile.TemporaryDirectory() as temporary:
        hunt = Hunt(paths, trace(arguments, traced or Path(temporary)))
    pytest.main(arguments, plugins=[hunt])
    click.echo("\n".join(hunt.scores))


if __name__ == "__main__":
    main()
