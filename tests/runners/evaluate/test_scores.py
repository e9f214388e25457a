"""pass@k, its interval, and the files."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.evaluate.scores import pass_at_k, score, write_metrics
from runners.evaluate.verdicts import (
    Verdict,
    VerdictFile,
    quoted,
    read_verdicts,
    rewrite_verdicts,
)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), st.data())
def test_pass_at_k_is_the_share_of_draws_that_hold_a_passing_sample(
    counts: tuple[int, int], data: st.DataObject
) -> None:
    samples, passed = counts
    k = data.draw(st.integers(1, samples))
    draws = list(itertools.combinations([True] * passed + [False] * (samples - passed), k))

    assert pass_at_k(samples, passed, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_with_too_few_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 5 samples"):
        pass_at_k(4, 1, 5)


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_the_interval_of_a_proportion_holds_the_proportion(passed: list[bool]) -> None:
    result = score([(1, int(one)) for one in passed], 1)

    assert 0.0 <= result.low <= result.value + 1e-12
    assert result.value - 1e-12 <= result.high <= 1.0


def test_wilsons_interval_of_8_in_10_is_the_published_one() -> None:
    result = score([(1, 1)] * 8 + [(1, 0)] * 2, 1)

    assert (result.low, result.high) == (
        pytest.approx(0.4902, abs=1e-4),
        pytest.approx(0.9433, abs=1e-4),
    )


def test_the_metrics_file_has_the_references_shape(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"

    write_metrics(path, "mbpp", [score([(1, 1), (1, 0)], 1)], {"model": "m"})

    assert path.read_text() == json.dumps(
        {"mbpp": {"pass@1": 0.5}, "config": {"model": "m"}}, indent=2
    )
    assert list(tmp_path.iterdir()) == [path]


def verdict(index: int, *, passed: bool = True) -> Verdict:
    return Verdict(index=index, task_id=f"T/{index}", passed=passed, status="passed", seconds=0.1)


def test_a_torn_last_verdict_is_end_of_file_and_is_cut_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    rewrite_verdicts(path, [verdict(0), verdict(1)])
    with path.open("ab") as file:
        file.write(b'{"index": 2, "task_')

    assert [v.index for v in read_verdicts(path)] == [0, 1]
    file_ = VerdictFile(path)
    file_.append(verdict(2))
    file_.close()
    assert [v.index for v in read_verdicts(path)] == [0, 1, 2]


def test_a_damaged_line_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    rewrite_verdicts(path, [verdict(0)])
    with path.open("ab") as file:
        file.write(b"not json\n")
    file_ = VerdictFile(path)
    file_.append(verdict(1))
    file_.close()

    assert [v.index for v in read_verdicts(path)] == [0, 1]


@given(st.binary(max_size=9000))
def test_what_a_program_said_is_quoted_short_and_harmless(said: bytes) -> None:
    text = quoted(said)

    assert len(text.encode()) <= 4096 * 3
    assert "\x1b" not in text
