"""The writer: rows and ingest position in one transaction, safe to repeat."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import db
from db.series import flagged, unflagged


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_float_survives_its_flag(value: float) -> None:
    stored, flag = flagged(value)
    assert stored is None or math.isfinite(stored)
    back = unflagged(stored, flag)
    assert back == value or (math.isnan(back) and math.isnan(value))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(value=st.floats(allow_nan=True, allow_infinity=True))
def test_any_float_survives_the_database(store: db.Store, value: float) -> None:
    run = db.RunRecord(id=db.new_run_id(), kind="train")
    store.insert_run(run)
    writer = store.writer(run.id)
    writer.metrics(1, {"loss": value}, at=1.0)
    assert writer.commit()
    kept = store.latest_metrics(run.id)["loss"].value
    assert kept == value or (math.isnan(kept) and math.isnan(value))


def _write_everything(writer: db.RunWriter) -> None:
    writer.metrics(10, {"loss": 0.5, "lr": 1e-4}, at=1.0)
    writer.score("mbpp", passed=3, total=4, pass_at_1=0.75, at=2.0)
    writer.verdicts("mbpp", [db.VerdictRecord(0, "MBPP/11", True, "passed", 0.1, "")])
    writer.artifact("adapter", "artifacts/adapter", "ab" * 32, 123, at=3.0)
    writer.notice("warning", "careful", at=4.0)
    writer.progress("training", 10, 40, "steps")
    writer.finished({"steps": 40})


def test_everything_written_is_there_after_the_commit(store: db.Store, new_run) -> None:
    run = new_run()
    writer = store.writer(run.id)
    _write_everything(writer)
    assert store.scores(run.id) == []
    assert writer.commit(events_offset=700, events_seq=7)
    assert store.latest_metrics(run.id) == {
        "loss": db.MetricPoint(10, 0.5, 1.0),
        "lr": db.MetricPoint(10, 1e-4, 1.0),
    }
    assert store.scores(run.id) == [db.ScoreRecord("mbpp", 3, 4, 0.75, 2.0)]
    assert store.verdicts(run.id, "mbpp") == [
        db.VerdictRecord(0, "MBPP/11", True, "passed", 0.1, "")
    ]
    assert store.artifacts(run.id) == [
        db.ArtifactRecord("adapter", "artifacts/adapter", "ab" * 32, 123, 3.0)
    ]
    assert store.notices(run.id) == [db.NoticeRecord("warning", "careful", 4.0)]
    after = store.get_run(run.id)
    assert (after.stage, after.done, after.total, after.unit) == ("training", 10, 40, "steps")
    assert (after.summary, after.message) == ('{"steps": 40}', "careful")
    assert (after.events_offset, after.events_seq) == (700, 7)


verdict_rows = st.lists(
    st.builds(
        db.VerdictRecord,
        index=st.integers(0, 3),
        task_id=st.just("MBPP/11"),
        passed=st.booleans(),
        status=st.sampled_from(["passed", "wrong", "timeout"]),
        seconds=st.floats(0, 10),
        detail=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
        sample=st.integers(0, 3),
    ),
    max_size=20,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batches=st.lists(verdict_rows, max_size=3))
def test_every_sample_keeps_its_own_last_verdict(
    store: db.Store, new_run, batches: list[list[db.VerdictRecord]]
) -> None:
    run = new_run()
    writer = store.writer(run.id)
    for rows in batches:
        writer.verdicts("mbpp", rows)
        assert writer.commit()
    kept = {(row.index, row.sample): row for rows in batches for row in rows}
    assert store.verdicts(run.id, "mbpp") == [kept[key] for key in sorted(kept)]


def test_the_same_events_twice_change_nothing(store: db.Store, new_run) -> None:
    run = new_run()
    first, second = store.writer(run.id), store.writer(run.id)
    _write_everything(first)
    _write_everything(second)
    assert first.commit(events_offset=700, events_seq=7)
    before = store.get_run(run.id)
    assert not second.commit(events_offset=700, events_seq=7)
    assert store.get_run(run.id) == before
    assert len(store.notices(run.id)) == 1


def test_a_writer_that_was_overtaken_writes_nothing_and_learns_where_to_begin(
    store: db.Store, new_run
) -> None:
    run = new_run()
    slow, fast = store.writer(run.id), store.writer(run.id)
    fast.notice("info", "one", at=1.0)
    assert fast.commit(events_offset=100, events_seq=1)
    slow.notice("info", "one", at=1.0)
    slow.notice("info", "two", at=2.0)
    assert not slow.commit(events_offset=200, events_seq=2)
    assert [n.text for n in store.notices(run.id)] == ["one"]
    assert (slow.events_offset, slow.events_seq) == (100, 1)
    slow.notice("info", "two", at=2.0)
    assert slow.commit(events_offset=200, events_seq=2)
    assert [n.text for n in store.notices(run.id)] == ["one", "two"]


def test_a_position_that_does_not_move_on_is_refused(store: db.Store, new_run) -> None:
    writer = store.writer(new_run().id)
    assert writer.commit(events_offset=10, events_seq=1)
    assert not writer.commit(events_offset=10, events_seq=1)
    assert writer.commit(events_offset=20, events_seq=2)


def test_rows_without_a_position_are_written_whatever_was_read(store: db.Store, new_run) -> None:
    run = new_run()
    store.writer(run.id).commit(events_offset=10, events_seq=1)
    writer = store.writer(run.id)
    writer.notice("info", "from the supervisor", at=1.0)
    assert writer.commit()
    assert store.get_run(run.id).events_seq == 1
    assert len(store.notices(run.id)) == 1


def test_a_resumed_run_replaces_the_steps_it_repeats(store: db.Store, new_run) -> None:
    run = new_run()
    writer = store.writer(run.id)
    for step in range(1, 8):
        writer.metrics(step, {"loss": 1.0}, at=float(step))
    writer.commit(events_offset=1, events_seq=7)
    writer.metrics(5, {"loss": 0.25}, at=100.0)
    writer.commit(events_offset=2, events_seq=8)
    assert store.latest_metrics(run.id)["loss"] == db.MetricPoint(5, 0.25, 100.0)


def test_a_failed_commit_keeps_what_was_gathered(store: db.Store, new_run) -> None:
    run = new_run()
    writer = store.writer(run.id)
    writer.notice("info", "kept", at=1.0)
    writer.score("mbpp", 1, 2, None, at=1.0)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="NOT NULL"):
        writer.commit(events_offset=1, events_seq=1)
    assert store.notices(run.id) == []
    assert store.get_run(run.id).events_seq == 0
    writer.score("mbpp", 1, 2, 0.5, at=1.0)
    writer.discard()
    writer.notice("info", "kept", at=1.0)
    assert writer.commit(events_offset=1, events_seq=1)


def test_a_writer_of_an_unknown_run_is_an_error(store: db.Store) -> None:
    with pytest.raises(db.RunNotFoundError):
        store.writer("nobody")


def test_steps_without_a_value_hold_up_nothing(store: db.Store, new_run) -> None:
    run = new_run()
    writer = store.writer(run.id)
    writer.metrics(1, {}, at=1.0)
    assert writer.commit(events_offset=10, events_seq=1)
    writer.metrics(2, {}, at=2.0)
    writer.metrics(3, {"loss": 1.0}, at=3.0)
    assert writer.commit(events_offset=20, events_seq=2)
    assert [point.step for point in store.series(run.id, "loss").points] == [3]
