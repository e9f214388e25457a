"""A replay held against its original, verdict by verdict."""

from pathlib import Path

import pytest

from db import RunRecord, Store, VerdictRecord, open_store
from runners.lifecycle.replay_verdict import compare_replay


def _evaluation(store: Store, run_id: str, samples: dict[int, list[bool]]) -> RunRecord:
    """An evaluation with these verdicts: by question, one a sample."""
    run = RunRecord(id=run_id, kind="evaluate", status="finished")
    store.insert_run(run)
    rows = [
        VerdictRecord(i, f"MBPP/{11 + i}", p, "passed" if p else "wrong", sample=n)
        for i, row in samples.items()
        for n, p in enumerate(row)
    ]
    writer = store.writer(run_id)
    passed = sum(row.passed for row in rows)
    writer.score("mbpp", passed, len(rows), passed / len(rows), 1.0)
    writer.verdicts("mbpp", rows)
    writer.commit()
    return run


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({0: [True], 1: [False]}, {0: [True], 1: [False]}, ()),
        ({0: [True]}, {0: [False]}, ("mbpp 0 (MBPP/11): passed became wrong",)),
        (
            {0: [True, False]},
            {0: [False, True]},
            (
                "mbpp 0 sample 0 (MBPP/11): passed became wrong",
                "mbpp 0 sample 1 (MBPP/11): wrong became passed",
            ),
        ),
        ({0: [True], 1: [True]}, {0: [True]}, ()),
    ],
    ids=["the same", "one flipped", "as many pass, but not the same", "not judged again"],
)  # fmt: skip
def test_each_verdict_that_a_replay_changed_is_told(
    tmp_path: Path,
    before: dict[int, list[bool]],
    after: dict[int, list[bool]],
    told: tuple[str, ...],
) -> None:
    with open_store(tmp_path / "mft.db") as store:
        original = _evaluation(store, "1original", before)
        replay = _evaluation(store, "2replay", after)
        assert compare_replay(store, original, replay, []).flipped == told
