"""Prompts and post-processing against what the reference system produced."""

import hashlib
import json
from pathlib import Path

import pytest

from runners.benchmarks.postprocess import postprocess
from runners.benchmarks.prompts import PromptStyle, prompt
from runners.benchmarks.rows import Question, load_questions
from runners.benchmarks.tasks import TASKS


@pytest.fixture(scope="module")
def questions(shared: Path) -> dict[tuple[str, int], Question]:
    return {
        (task, question.index): question
        for task in TASKS
        for question in load_questions(shared / "benchmarks", task)
    }


def test_all_992_known_prompts_hash_as_the_references(
    shared: Path, questions: dict[tuple[str, int], Question]
) -> None:
    hashes = json.loads((shared / "goldens" / "prompt_sha256.json").read_text())
    assert len(hashes) == 992
    for key, expected in hashes.items():
        task, _, index = key.rpartition("/")
        text = prompt(questions[task, int(index)]).text
        assert hashlib.sha256(text.encode()).hexdigest() == expected, key


def test_all_992_known_completions_are_stored_byte_for_byte(
    shared: Path, questions: dict[tuple[str, int], Question]
) -> None:
    lines = (shared / "goldens" / "postprocess.jsonl").read_text().splitlines()
    assert len(lines) == 992
    for line in lines:
        known = json.loads(line)
        question = questions[known["task"], known["index"]]
        assert postprocess(question, known["completion"]) == known["generation"], question.task_id


@pytest.mark.parametrize(
    "style",
    [
        PromptStyle(),
        PromptStyle("chatml"),
        PromptStyle("chatml", "Answer in code."),
        PromptStyle("chatml", code_prefix="answer"),
    ],
)
def test_every_one_of_the_2468_questions_can_be_put_and_its_own_solution_stored(
    style: PromptStyle, questions: dict[tuple[str, int], Question]
) -> None:
    assert len(questions) == 2468
    for question in questions.values():
        asked = prompt(question, style)
        assert asked.text.startswith(asked.prefix)
        assert (asked.opening or asked.body).endswith("\n")
        solution = question.row.get("canonical_solution", question.row.get("code"))
        # A style changes what is asked, not what is stored, but for the line break that the
        # suffix leaves behind.
        stored = postprocess(question, solution, style).splitlines()
        plain = postprocess(question, solution).splitlines()
        assert [line for line in stored if line.strip()] == [line for line in plain if line.strip()]
