"""The event log's promises, held on generated logs: round trip, torn tails, reading while written,
and that ingesting twice changes nothing."""

import math
import threading
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db import RunRecord, VerdictRecord, open_store
from runners.evaluate.verdicts import Verdict
from runners.lifecycle.events import AnyEvent, EventWriter, Metrics, Notice, read_events
from runners.lifecycle.folders import RunFolder
from runners.lifecycle.ingest import ingest, read_verdicts, verdict_task

values = st.dictionaries(
    st.text(min_size=1, max_size=8), st.floats(allow_nan=True, allow_infinity=True), max_size=4
)
batches = st.lists(st.tuples(st.integers(0, 2**40), values), min_size=1, max_size=20)
# Shares and not bytes: the times in a log make its length another one at each try.
shares = st.floats(0, 1)
anywhere = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def written(path: Path, rows: list[tuple[int, dict[str, float]]]) -> None:
    path.unlink(missing_ok=True)
    with EventWriter(path) as writer:
        for step, numbers in rows:
            writer.metrics(step, numbers)


def events_of(path: Path) -> list[AnyEvent]:
    return [event for event, _ in read_events(path)]


def same(a: dict[str, float], b: dict[str, float]) -> bool:
    return a.keys() == b.keys() and all(
        a[k] == b[k] or (math.isnan(a[k]) and math.isnan(b[k])) for k in a
    )


@anywhere
@given(rows=batches)
def test_what_is_written_is_read_back_nan_and_infinities_too(
    tmp_path: Path, rows: list[tuple[int, dict[str, float]]]
) -> None:
    path = tmp_path / "events.jsonl"
    written(path, rows)
    found = events_of(path)
    assert [e.seq for e in found] == list(range(1, len(rows) + 1))
    for event, (step, numbers) in zip(found, rows, strict=True):
        assert isinstance(event, Metrics)
        assert event.step == step
        assert same(event.numbers(), numbers)


@anywhere
@given(rows=batches, share=shares)
def test_a_log_cut_anywhere_loses_only_its_torn_line_and_can_be_gone_on_with(
    tmp_path: Path, rows: list[tuple[int, dict[str, float]]], share: float
) -> None:
    path = tmp_path / "events.jsonl"
    written(path, rows)
    whole = path.read_bytes()
    cut = round(share * len(whole))
    path.write_bytes(whole[:cut])
    left = whole[:cut].count(b"\n")
    assert [e.seq for e in events_of(path)] == list(range(1, left + 1))
    with EventWriter(path) as writer:
        assert writer.last_seq == left
        writer.notice("info", "on we go")
    assert [e.seq for e in events_of(path)] == list(range(1, left + 2))


@anywhere
@given(rows=batches, junk=st.binary(min_size=1, max_size=30).filter(lambda b: b"\n" not in b))
def test_a_damaged_line_hides_no_other(
    tmp_path: Path, rows: list[tuple[int, dict[str, float]]], junk: bytes
) -> None:
    path = tmp_path / "events.jsonl"
    written(path, rows)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b"!" + junk + b"\n", *lines]))
    assert [e.seq for e in events_of(path)] == list(range(1, len(rows) + 1))


def test_a_reader_beside_the_writer_sees_each_event_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.touch()
    total = 3000

    def write() -> None:
        with EventWriter(path) as writer:
            for step in range(1, total + 1):
                writer.metrics(step, {"loss": 1 / step})

    thread = threading.Thread(target=write)
    thread.start()
    seen: list[int] = []
    offset = 0
    while len(seen) < total:
        for event, after in read_events(path, offset):
            seen.append(event.seq)
            offset = after
    thread.join()
    assert seen == list(range(1, total + 1))


def test_the_error_that_ends_a_job_carries_its_exit_code_and_others_carry_none(
    tmp_path: Path,
) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        writer.notice("error", "gone", exit_code=5)
        writer.notice("info", "hello")
    assert [e.exit_code for e in events_of(path) if isinstance(e, Notice)] == [5, None]
    assert b"exit_code" not in path.read_bytes().splitlines()[1]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=batches, cut_at=st.lists(shares, max_size=4))
def test_ingesting_a_growing_log_in_any_number_of_goes_is_ingesting_it_once(
    tmp_path: Path, rows: list[tuple[int, dict[str, float]]], cut_at: list[float]
) -> None:
    folder = RunFolder(tmp_path / "r1")
    folder.path.mkdir(exist_ok=True)
    database = tmp_path / "mft.db"
    for part in tmp_path.glob("mft.db*"):
        part.unlink()
    written(folder.events, rows)
    whole = folder.events.read_bytes()
    cuts = sorted(round(share * len(whole)) for share in cut_at)
    with open_store(database) as store:
        store.insert_run(RunRecord(id="r1", kind="train", folder=str(folder.path)))
        taken = 0
        for cut in [*cuts, len(whole), len(whole)]:
            folder.events.write_bytes(whole[:cut])
            taken += ingest(store, folder)
        assert taken == len(rows)
        assert store.get_run("r1").events_seq == len(rows)
        for key in {k for _, numbers in rows for k in numbers}:
            steps = {step for step, numbers in rows if key in numbers}
            points = store.series("r1", key, 10**6).points
            assert [p.step for p in points] == sorted(steps)


def test_an_older_copy_of_a_log_put_back_takes_nothing_in_twice(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r1")
    folder.path.mkdir()
    written(folder.events, [(1, {"loss": 1.0}), (2, {"loss": 0.5}), (3, {"loss": 0.2})])
    whole = folder.events.read_bytes()
    with open_store(tmp_path / "mft.db") as store:
        store.insert_run(RunRecord(id="r1", kind="train", folder=str(folder.path)))
        assert ingest(store, folder) == 3
        folder.events.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
        assert ingest(store, folder) == 0
        folder.events.write_bytes(whole)
        assert ingest(store, folder) == 0


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    judged=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), min_size=1, max_size=15
    )
)
def test_every_sample_of_a_file_of_verdicts_is_taken_in(
    tmp_path: Path, judged: list[tuple[int, int, bool]]
) -> None:
    folder = RunFolder(tmp_path / "r1")
    path = folder.path / "verdicts_mbpp_m.jsonl"
    for old in (*tmp_path.glob("mft.db*"), *tmp_path.glob("r1/*")):
        old.unlink()
    folder.path.mkdir(exist_ok=True)
    for index, sample, passed in judged:
        verdict = Verdict(
            index=index,
            task_id=f"MBPP/{index}",
            passed=passed,
            status="passed" if passed else "wrong",
            seconds=0.1,
            sample=sample,
        )
        with path.open("ab") as file:
            file.write(msgspec.json.encode(verdict) + b"\n")
    with EventWriter(folder.events) as writer:
        writer.artifact("verdicts", path.name, "00", path.stat().st_size)
    last = {(index, sample): passed for index, sample, passed in judged}
    with open_store(tmp_path / "mft.db") as store:
        store.insert_run(RunRecord(id="r1", kind="evaluate", folder=str(folder.path)))
        assert ingest(store, folder) == 1
        found = [(v.index, v.sample, v.passed) for v in store.verdicts("r1", "mbpp")]
    assert found == [(*key, last[key]) for key in sorted(last)]


def test_a_verdict_without_a_sample_is_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "verdicts_mbpp_m.jsonl"
    path.write_text('{"index": 7, "task_id": "MBPP/18", "passed": true, "status": "passed"}\n')
    assert read_verdicts(path) == [VerdictRecord(7, "MBPP/18", True, "passed", sample=0)]


def test_the_task_of_a_file_of_verdicts_is_in_its_name() -> None:
    path = Path("metrics_m/verdicts_humanevalfixtests-cpp_my_model.jsonl")
    assert verdict_task(path) == "humanevalfixtests-cpp"
    assert verdict_task(Path("adapter")) is None
