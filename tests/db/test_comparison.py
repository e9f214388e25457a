"""Runs side by side."""

import json
import math
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import db
from db.comparison import MISSING, Difference, Flip, mcnemar_exact


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 5, 1.0),
        (0, 6, 2 / 64),
        # 2 * (1 + 10 + 45) / 1024
        (8, 2, 112 / 1024),
        (2, 8, 112 / 1024),
    ],
)
def test_mcnemars_exact_test_gives_the_binomial_tails(
    only_first: int, only_second: int, p: float
) -> None:
    assert mcnemar_exact(only_first, only_second) == pytest.approx(p)


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_a_p_value_is_a_probability_and_knows_no_order(a: int, b: int) -> None:
    assert 0.0 <= mcnemar_exact(a, b) <= 1.0
    assert mcnemar_exact(a, b) == mcnemar_exact(b, a)


def test_only_settings_that_differ_are_shown(store: db.Store, new_run) -> None:
    first = new_run(config=json.dumps({"lr": 1, "fast": True, "seed": 42, "w": {"a": 1, "b": 2}}))
    second = new_run(
        config=json.dumps({"lr": 1.0, "fast": 1, "seed": 43, "w": {"a": 1}, "new": None})
    )
    found = store.compare([first.id, second.id]).differences
    assert set(found) == {
        Difference("fast", (True, 1)),
        Difference("seed", (42, 43)),
        Difference("w.b", (2, MISSING)),
        Difference("new", (MISSING, None)),
    }


def test_a_config_that_is_no_json_has_no_settings(store: db.Store, new_run) -> None:
    pair = [new_run(config="broken").id, new_run(config="[1]").id]
    assert store.compare(pair).differences == ()


def test_metrics_and_scores_stand_side_by_side(store: db.Store, new_run) -> None:
    first, second, third = (new_run() for _ in range(3))
    for run, losses in ((first, [3.0, 1.0, 2.0]), (second, [9.0, math.nan])):
        writer = store.writer(run.id)
        for step, loss in enumerate(losses):
            writer.metrics(step, {"loss": loss}, at=float(step))
        writer.score("mbpp", 1, 4, 0.25, at=1.0)
        writer.commit()
    compared = store.compare([first.id, second.id, third.id])
    (loss,) = compared.metrics
    assert loss.newest[0] == 2.0
    assert math.isnan(loss.newest[1] or 0)
    assert loss.newest[2] is None
    assert loss.lowest == (1.0, 9.0, None)
    assert loss.highest == (3.0, 9.0, None)
    (score,) = compared.scores
    assert (score.task, score.values) == ("mbpp", (0.25, 0.25, None))
    assert [run.id for run in compared.runs] == [first.id, second.id, third.id]
    assert len(compared.flips) == 2


def test_flips_are_the_questions_whose_verdict_changed(store: db.Store, new_run) -> None:
    first, second = new_run(), new_run()
    for run, passed in ((first, [1, 1, 0, 0, 1]), (second, [1, 0, 1, 0])):
        writer = store.writer(run.id)
        rows = [
            db.VerdictRecord(i, f"q/{i}", bool(p), "passed" if p else "wrong")
            for i, p in enumerate(passed)
        ]
        writer.verdicts("mbpp", rows)
        writer.commit()
    flips = store.flips(first.id, second.id)
    assert (flips.both, flips.lost, flips.gained, flips.neither) == (1, 1, 1, 1)
    assert flips.compared == 4
    assert flips.questions == (
        Flip("mbpp", 1, "q/1", 1, 1, 0, "passed", "wrong"),
        Flip("mbpp", 2, "q/2", 1, 0, 1, "wrong", "passed"),
    )
    assert (flips.p_value, flips.test) == (1.0, "McNemar's")


def _write_verdicts(store: db.Store, run_id: str, passed: Mapping[tuple[int, int], bool]) -> None:
    """``passed`` by question and sample."""
    writer = store.writer(run_id)
    rows = [
        db.VerdictRecord(i, f"q/{i}", p, "passed" if p else "wrong", sample=s)
        for (i, s), p in passed.items()
    ]
    writer.verdicts("mbpp", rows)
    writer.commit()


def test_a_question_with_several_samples_flips_by_how_many_pass(store: db.Store, new_run) -> None:
    first, second = new_run(), new_run()
    table = {
        first.id: {0: [1, 1, 0], 1: [0, 0, 1], 2: [1, 0, 0], 3: [0, 0, 0], 4: [1]},
        second.id: {0: [1, 0, 0], 1: [1, 1, 1], 2: [0, 0, 1], 3: [0, 0, 0], 4: [0]},
    }
    for run_id, questions in table.items():
        passed = {(i, s): bool(p) for i, row in questions.items() for s, p in enumerate(row)}
        _write_verdicts(store, run_id, passed)
    flips = store.flips(first.id, second.id)
    assert (flips.both, flips.lost, flips.gained, flips.neither) == (1, 2, 1, 1)
    assert flips.questions == (
        Flip("mbpp", 0, "q/0", 3, 2, 1, "2 of 3 passed", "1 of 3 passed"),
        Flip("mbpp", 1, "q/1", 3, 1, 3, "1 of 3 passed", "3 of 3 passed"),
        Flip("mbpp", 4, "q/4", 1, 1, 0, "passed", "wrong"),
    )
    assert (flips.samples, flips.test) == (3, "the sign test's")


verdict_tables = st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 3)), st.booleans(), max_size=20
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(before=verdict_tables, after=verdict_tables)
def test_flips_count_the_samples_that_both_runs_have(
    store: db.Store,
    new_run,
    before: dict[tuple[int, int], bool],
    after: dict[tuple[int, int], bool],
) -> None:
    first, second = new_run(), new_run()
    _write_verdicts(store, first.id, before)
    _write_verdicts(store, second.id, after)
    shared = sorted(before.keys() & after.keys())
    gains = {
        index: sum(after[key] - before[key] for key in shared if key[0] == index)
        for index in {index for index, _ in shared}
    }
    there, back = store.flips(first.id, second.id), store.flips(second.id, first.id)
    assert there.compared == back.compared == len(gains)
    assert there.gained == back.lost == sum(gain > 0 for gain in gains.values())
    assert there.lost == back.gained == sum(gain < 0 for gain in gains.values())
    assert [flip.index for flip in there.questions] == [i for i in sorted(gains) if gains[i]]
    for flip in there.questions:
        assert flip.samples == sum(index == flip.index for index, _ in shared)
        assert flip.second_passed - flip.first_passed == gains[flip.index]


def test_runs_without_verdicts_have_no_flips(store: db.Store, new_run) -> None:
    flips = store.flips(new_run().id, new_run().id)
    assert (flips.compared, flips.questions, flips.p_value) == (0, (), 1.0)


def test_one_run_cannot_be_compared(store: db.Store, new_run) -> None:
    with pytest.raises(db.QueryError, match="two runs or more"):
        store.compare([new_run().id])
    with pytest.raises(db.RunNotFoundError):
        store.compare([new_run().id, "zzz"])
