"""The evaluation job as a program: folders in, verdicts, metrics and events out."""

import pytest

from tests.runners.evaluate.conftest import NewRun, Rows

PACK = ("python", "java", "js", "cpp", "go", "rust")


@pytest.mark.slow
def test_ten_canonical_solutions_of_every_language_pass_inside_the_sandbox(
    new_run: NewRun, rows: Rows
) -> None:
    generations = {
        f"humanevalsynthesize-{language}": [
            [row["prompt"] + row["canonical_solution"]] for row in rows(language)[:10]
        ]
        for language in PACK
    }
    generations["mbpp"] = [[row["code"]] for row in rows("mbpp")[:10]]
    run = new_run(generations)

    code, said = run.finish()

    assert code == 0, said
    skipped = [event["text"] for event in run.events if event["event"] == "notice"]
    for task, score in run.summary["tasks"].items():
        assert (task, score["passed"], score["total"]) == (task, 10, 10)
    assert len(run.summary["tasks"]) + len(skipped) == 7
    assert run.summary["average"] is None
