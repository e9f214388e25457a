"""A busy machine changes no verdict: limits count the program's own time."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from runners.evaluate.languages import LANGUAGES
from tests.runners.evaluate.conftest import NewRun, OpenBar, Rows

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
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("busy_machine")
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("way", ["fast", "plain"])
def test_right_and_wrong_solutions_are_told_apart_on_a_busy_machine(
    bar: OpenBar, new_run: NewRun, rows: Rows, language: str, way: str
) -> None:
    bar(language)  # skips where its toolchain is missing
    task = f"{FAMILY}-{language}"
    chosen = [rows(language)[index] for index in (0, 60, 120)]
    kinds = ("canonical_solution", "buggy_solution")
    stored = [[row["prompt"] + row[kind] for kind in kinds] for row in chosen]

    run = new_run({task: stored}, way=way)
    # The chosen rows stand where the first ones do.
    run.benchmarks({language: chosen})
    code, said = run.finish()

    assert code == 0, said
    assert [verdict["passed"] for verdict in run.verdicts(task)] == [True, False] * 3
    assert {verdict["status"] for verdict in run.verdicts(task)}.isdisjoint({"timeout"})


@pytest.mark.slow
@pytest.mark.usefixtures("busy_machine")
@pytest.mark.parametrize("way", ["fast", "plain"])
def test_a_program_near_its_limit_passes_on_a_busy_machine(
    bar: OpenBar, rows: Rows, way: str
) -> None:
    """Of its 3 s of CPU it takes 2; by the clock that is twice or thrice as much here."""
    at, row = bar("python"), rows("mbpp")[0]
    spends = "import time\nwhile time.process_time() < 2.0: pass\n"
    source = at.source(row, spends + row["code"], "mbpp")

    (judgement,) = at.fast([source]) if way == "fast" else [at.plain(source)]

    assert judgement is not None
    assert judgement.passed, judgement.detail
    assert judgement.seconds > 1.5
