"""The fast way gives the plain way's verdict, whatever the program does."""

import itertools
from collections.abc import Sequence

import pytest

from runners.evaluate.languages import LANGUAGES
from tests.runners.evaluate.conftest import Bar, OpenBar, Rows
from tests.runners.evaluate.mutations import TEXT, Mutant, mutants

FAMILY = "humanevalsynthesize"
KINDS = 40

# Times are shortened, so that endless programs end soon: to a second or two of CPU where a compiler
# or a virtual machine needs some of it, and to a few seconds of sleep.
SLACK = {"python": 0.15, "java": 0.25, "js": 0.2, "cpp": 0.1, "go": 0.2, "rust": 0.25}


# So many kinds the fast way has to answer for, at least: it leaves others to the plain way, but a
# comparison of nothing would show nothing. JavaScript has the plain way only.
ANSWERED = {"python": 50, "java": 45, "js": 0, "cpp": 60, "go": 20, "rust": 35}
# Other rows, on which only those kinds are tried that are a change of any text.
OTHER_ROWS = (40, 90, 140)


def differences(
    bar: Bar, rows: Rows, chosen: Sequence[Mutant], index: int = 0
) -> tuple[list[str], int]:
    """Where the ways disagree, and how many programs the fast way answered for."""
    row = rows(bar.name)[index]
    sources = [bar.source(row, mutant.text, FAMILY) for mutant in chosen]
    found, answered = [], 0
    for mutant, source, fast in zip(chosen, sources, bar.fast(sources), strict=True):
        if fast is None:
            continue
        answered += 1
        plain = bar.plain(source)
        if (fast.passed, fast.status) != (plain.passed, plain.status):
            found.append(
                f"{mutant.kind}: fast {fast.status} {fast.detail[-300:]!r}, "
                f"plain {plain.status} {plain.detail[-300:]!r}"
            )
    return found, answered


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_are_forty_kinds_of_each_language(rows: Rows, language: str) -> None:
    kinds = [mutant.kind for mutant in mutants(language, rows(language)[0])]

    assert len(set(kinds)) == len(kinds) >= KINDS


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_some_kinds_of_programs_are_judged_alike(bar: OpenBar, rows: Rows, language: str) -> None:
    every = mutants(language, rows(language)[0])

    found, answered = differences(
        bar(language, slack=SLACK[language]), rows, [*itertools.islice(every, 0, None, 17)]
    )

    assert found == []
    assert answered >= min(ANSWERED[language], 1)


@pytest.mark.full
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_program_is_judged_alike(bar: OpenBar, rows: Rows, language: str) -> None:
    every = [*mutants(language, rows(language)[0])]

    found, answered = differences(bar(language, slack=SLACK[language]), rows, every)
    print(f"{language}: {len(every)} kinds, {answered} answered by the fast way")

    assert found == []
    assert answered >= ANSWERED[language]


@pytest.mark.full
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("language", LANGUAGES)
def test_changed_texts_of_other_rows_are_judged_alike(
    bar: OpenBar, rows: Rows, language: str
) -> None:
    at, answered = bar(language, slack=SLACK[language]), 0
    for index in OTHER_ROWS:
        texts = [*itertools.islice(mutants(language, rows(language)[index]), len(TEXT))]
        found, more = differences(at, rows, texts, index)
        assert found == []
        answered += more

    assert answered >= min(ANSWERED[language], 3)
