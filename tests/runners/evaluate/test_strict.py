"""Under ``--strict`` a program that ends before its tests does not pass; by default some do."""

import pytest

from runners.evaluate.languages import LANGUAGES
from tests.runners.evaluate.conftest import Bar, OpenBar, Rows

FAMILY = "humanevalsynthesize"

# Ends the program with status 0 (JavaScript: in silence) before any test has run. Go's own test
# harness refuses os.Exit(0) in a test, but not in an init function.
EARLY_END = {
    "java": "System.exit(0);\n",
    "js": "process.exit(0)\n",
    "cpp": "struct Early { Early() { exit(0); } } early;\n",
    "go": "func init() { os.Exit(0) }\n",
    "rust": "std::process::exit(0);",
}


def early(language: str, row: dict[str, str]) -> str:
    """The first row's solution with an early end in its body, in front of it, or behind it."""
    head, body = row["prompt"], row["canonical_solution"]
    if language in {"java", "rust"}:
        return head + EARLY_END[language] + body
    if language == "go":
        head = 'import "os"\n' + head
    return head + body + EARLY_END[language]


def verdicts(bar: Bar, rows: Rows, *, ends_early: bool) -> set[bool]:
    """What both ways say of the first row's solution."""
    row = rows(bar.name)[0]
    text = early(bar.name, row) if ends_early else row["prompt"] + row["canonical_solution"]
    source = bar.source(row, text, FAMILY)
    # Two, because Go's fast way takes no single program.
    fast = [judgement for judgement in bar.fast([source, source]) if judgement is not None]
    return {judgement.passed for judgement in (bar.plain(source), *fast)}


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_strictness_lets_a_right_solution_pass(bar: OpenBar, rows: Rows, language: str) -> None:
    assert verdicts(bar(language, strict=True), rows, ends_early=False) == {True}


@pytest.mark.slow
@pytest.mark.parametrize("language", EARLY_END)
def test_an_early_end_passes_by_the_rules_and_not_under_strictness(
    bar: OpenBar, rows: Rows, language: str
) -> None:
    assert verdicts(bar(language), rows, ends_early=True) == {True}
    assert verdicts(bar(language, strict=True), rows, ends_early=True) == {False}


def test_python_never_passes_by_ending_early(bar: OpenBar, rows: Rows) -> None:
    at, row = bar("python"), rows("python")[0]

    source = at.source(row, "import os\nos._exit(0)", FAMILY)

    assert not at.plain(source).passed
    assert at.fast([source]) == [None]
