"""What is stored does not depend on when a completion was stopped, where the rules promise that."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.benchmarks.demo import demo_benchmarks, ideal_answers
from runners.benchmarks.postprocess import EOS, cut_at_stop, postprocess, stop_rule
from runners.benchmarks.prompts import PromptStyle
from runners.benchmarks.rows import Question, load_questions
from runners.benchmarks.stopping import StopChecker, first_stop
from runners.benchmarks.tasks import TASKS
from tests.runners.benchmarks.test_stopping import pieces

QUESTIONS = {task: load_questions(demo_benchmarks(), task) for task in TASKS}
HUMANEVALPACK = [task for task in TASKS if task != "mbpp"]
STYLES = [PromptStyle(), PromptStyle("chatml"), PromptStyle("chatml", "Be brief.", "answer")]


@given(task=st.sampled_from(HUMANEVALPACK), parts=pieces)
def test_stopping_early_and_cutting_later_store_the_same_humaneval_generation(
    task: str, parts: list[str]
) -> None:
    question = QUESTIONS[task][0]
    checker = StopChecker(stop_rule(task))
    stopped = ""
    for part in parts:
        stopped += part
        # Nothing ever follows the end token itself: there generation ends, rule or no rule.
        if EOS in stopped or checker.feed(part):
            break
    # Trailing blanks may differ: they are taken off before the cut, not after it.
    whole = stopped if EOS in stopped else "".join(parts).partition(EOS)[0]
    assert postprocess(question, stopped).rstrip() == postprocess(question, whole).rstrip()


@given(text=pieces.map("".join))
def test_an_mbpp_completion_cut_at_its_stop_is_a_prefix_that_ends_in_a_stop_word(text: str) -> None:
    cut = cut_at_stop("mbpp", text)
    assert text.startswith(cut)
    if cut != text:
        assert any(cut.endswith(word) for word in stop_rule("mbpp").words)


@pytest.mark.parametrize(
    ("answer", "stored"),
    [
        ("import heapq\nclass Node:\n    pass\n", "import heapq"),
        ("class Node:\n    pass\n", "class Node:\n    pass"),
    ],
)
def test_a_class_below_an_import_is_cut_off_an_mbpp_answer(answer: str, stored: str) -> None:
    # MBPP/342's own solution is of the first kind, so it cannot pass.
    kept = postprocess(QUESTIONS["mbpp"][0], f"```python\n{answer}```\n")
    assert kept.rpartition('"""\n')[2].rstrip() == stored


@given(task=st.sampled_from(TASKS), text=pieces.map("".join))
def test_what_is_stored_survives_json_and_holds_the_question(task: str, text: str) -> None:
    question = QUESTIONS[task][1]
    stored = postprocess(question, text)
    assert json.loads(json.dumps(stored)) == stored
    head = question.row.get("declaration" if "fixtests" in task else "prompt", '"""')
    assert head.strip().splitlines()[0] in stored


@pytest.mark.parametrize("style", STYLES)
def test_the_ideal_answer_of_every_demo_question_is_stored_as_its_own_solution(
    style: PromptStyle,
) -> None:
    answers = ideal_answers(style)
    assert len(answers) == 26
    for answer in answers:
        question = QUESTIONS[answer.task][answer.index]
        stored = postprocess(question, answer.completion + "<|im_end|>", style)
        assert stored.rstrip().endswith(_solution(question).rstrip())
        assert first_stop(stop_rule(answer.task), answer.completion[:-1]) in {
            None,
            len(answer.completion.rstrip()),
        }


def _solution(question: Question) -> str:
    return str(question.row.get("canonical_solution", question.row.get("code")))
