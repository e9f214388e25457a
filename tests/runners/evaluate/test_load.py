"""A busy machine changes no verdict: limits count the program's own time."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.runners.evaluate.conftest import OpenBar, Rows

FAMILY = "humanevalsynthesize"


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Four processes that do nothing, as hard as they can."""
    loads = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    yield
    for load in loads:
        load.kill()
        load.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("busy_machine")
@pytest.mark.parametrize("language", ["python", "js", "java", "cpp", "rust"])
def test_canonical_solutions_pass_on_a_busy_machine(
    bar: OpenBar, rows: Rows, language: str
) -> None:
    at = bar(language)
    row = rows(language)[0]

    judgement = at.plain(at.source(row, row["prompt"] + row["canonical_solution"], FAMILY))

    assert judgement.passed, judgement.detail
