"""Runs that travel between stores."""

import json
from pathlib import Path

import pytest

import db

CARD_RUN = {"id": "1abc", "kind": "train", "created_at": 5.0}


def _fill(store: db.Store, run_id: str, *, seq: int = 3) -> None:
    writer = store.writer(run_id)
    writer.metrics(seq, {"loss": 1.0 / seq, f"only-{run_id}": 2.0}, at=float(seq))
    writer.score("mbpp", seq, 10, seq / 10, at=1.0)
    samples = [db.VerdictRecord(0, "a", bool(n), "passed", sample=n) for n in range(2)]
    writer.verdicts("mbpp", samples)
    writer.artifact("zip", "a.zip", "00", 1, at=1.0)
    writer.notice("info", f"at {seq}", at=float(seq))
    assert writer.commit(events_offset=100 * seq, events_seq=seq)


@pytest.fixture
def elsewhere(tmp_path: Path):
    with db.open_store(tmp_path / "elsewhere" / "mft.db") as opened:
        yield opened


def test_a_card_brings_a_run_to_another_store_once(
    store: db.Store, elsewhere: db.Store, new_run, tmp_path: Path
) -> None:
    run = new_run(name="mine", note="good", status="finished", folder="/old")
    store.tag(run.id, ["best"])
    _fill(store, run.id)
    card = json.loads(json.dumps(store.run_card(run.id[:9])))
    assert elsewhere.import_card(card, tmp_path / run.id)
    arrived = elsewhere.get_run(run.id)
    assert (arrived.name, arrived.note, arrived.status) == ("mine", "good", "finished")
    assert arrived.folder == str(tmp_path / run.id)
    assert (arrived.events_offset, arrived.events_seq) == (0, 0)
    assert elsewhere.tags(run.id) == ["best"]
    elsewhere.rename(run.id, "renamed here")
    elsewhere.untag(run.id, ["best"])
    assert not elsewhere.import_card(card, tmp_path / run.id)
    assert elsewhere.get_run(run.id).name == "renamed here"
    assert elsewhere.tags(run.id) == []


def test_a_card_of_another_run_with_the_same_id_is_refused(store: db.Store, tmp_path: Path) -> None:
    assert store.import_card({"run": CARD_RUN}, tmp_path)
    with pytest.raises(db.DuplicateRunError, match="another run"):
        store.import_card({"run": {**CARD_RUN, "created_at": 6.0}}, tmp_path)


def test_what_a_newer_version_put_on_a_card_is_passed_over(store: db.Store, tmp_path: Path) -> None:
    store.import_card({"card": 9, "run": {**CARD_RUN, "mood": "good"}, "tags": [1, "x"]}, tmp_path)
    assert store.tags("1abc") == ["x"]


@pytest.mark.parametrize(
    "run",
    [
        None,
        [],
        {},
        {"id": "../../etc", "kind": "train"},
        {"id": "1abc"},
        {"id": "1abc", "kind": ""},
        {"id": "1abc", "kind": "train", "status": "dancing"},
        {"id": "1abc", "kind": "train", "created_at": "yesterday"},
        {"id": "1abc", "kind": "train", "name": None},
        {"id": "1abc", "kind": "train", "attempt": True},
    ],
)
def test_a_card_that_is_none_is_refused(store: db.Store, tmp_path: Path, run: object) -> None:
    with pytest.raises(db.StoreError, match="no run that was exported"):
        store.import_card({"run": run}, tmp_path)
    assert store.list_runs().total == 0


def test_taking_in_another_store_adds_its_runs_once(
    store: db.Store, elsewhere: db.Store, tmp_path: Path
) -> None:
    mine = db.RunRecord(id="1mine", kind="train")
    theirs = db.RunRecord(id="1their", kind="evaluate", name="theirs", folder="/far")
    store.insert_run(mine)
    _fill(store, mine.id)
    elsewhere.insert_run(theirs)
    elsewhere.tag(theirs.id, ["best"])
    _fill(elsewhere, theirs.id)
    first = store.merge(elsewhere.path, tmp_path)
    assert (first.added, first.updated, first.unchanged) == (("1their",), (), ())
    assert store.get_run("1their").folder == str(tmp_path / "1their")
    assert store.tags("1their") == ["best"]
    for question in ("scores", "artifacts", "notices", "latest_metrics"):
        assert getattr(store, question)("1their") == getattr(elsewhere, question)("1their")
    taken = store.verdicts("1their", "mbpp")
    assert taken == elsewhere.verdicts("1their", "mbpp")
    assert [verdict.sample for verdict in taken] == [0, 1]
    assert store.series("1their", "loss") == elsewhere.series("1their", "loss")
    assert store.series("1mine", "loss").points != ()
    again = store.merge(elsewhere.path, tmp_path)
    assert (again.added, again.updated, again.unchanged) == ((), (), ("1their",))
    assert store.check() == []


def test_a_run_that_went_on_elsewhere_gets_the_results_and_keeps_its_name_here(
    store: db.Store, elsewhere: db.Store
) -> None:
    for where in (store, elsewhere):
        where.insert_run(db.RunRecord(id="1run", kind="train"))
        _fill(where, "1run", seq=3)
    store.rename("1run", "named here")
    store.tag("1run", ["tagged-here"])
    elsewhere.tag("1run", ["tagged-there"])
    elsewhere.transition("1run", "finished", expected={"queued"})
    _fill(elsewhere, "1run", seq=5)
    assert store.merge(elsewhere.path).updated == ("1run",)
    after = store.get_run("1run")
    assert (after.name, after.status, after.events_seq) == ("named here", "finished", 5)
    assert store.tags("1run") == ["tagged-here"]
    assert [n.text for n in store.notices("1run")] == ["at 3", "at 5"]
    assert elsewhere.merge(store.path).unchanged == ("1run",)


def test_two_runs_with_one_id_are_told_and_ours_is_kept(
    store: db.Store, elsewhere: db.Store
) -> None:
    store.insert_run(db.RunRecord(id="1run", kind="train", created_at=1.0))
    elsewhere.insert_run(db.RunRecord(id="1run", kind="train", created_at=2.0, events_seq=9))
    assert store.merge(elsewhere.path).conflicts == ("1run",)
    assert store.get_run("1run").created_at == 1.0


@pytest.mark.parametrize("content", [b"", b"hello, no database " * 100])
def test_what_is_no_store_is_not_taken_in(store: db.Store, tmp_path: Path, content: bytes) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(content)
    before = other.read_bytes()
    if content:
        with pytest.raises(db.StoreDamagedError) as told:
            store.merge(other)
        assert told.value.where == str(other)
    else:
        assert store.merge(other).added == ()
    assert other.read_bytes() == before
    with pytest.raises(db.StoreMissingError):
        store.merge(tmp_path / "nothing.db")


def test_a_copy_of_the_store_is_a_store(store: db.Store, new_run, tmp_path: Path) -> None:
    run = new_run()
    _fill(store, run.id)
    store.copy_to(tmp_path / "copy.db")
    with db.open_store(tmp_path / "copy.db") as copy:
        assert copy.get_run(run.id) == store.get_run(run.id)
        assert copy.check() == []


def test_a_removed_run_leaves_no_row_behind(store: db.Store, new_run) -> None:
    gone, stays = new_run(), new_run()
    for run in (gone, stays):
        store.tag(run.id, ["x"])
        _fill(store, run.id)
    store.remove_run(gone.id)
    with pytest.raises(db.RunNotFoundError):
        store.get_run(gone.id)
    assert store.check() == []
    for question in ("scores", "artifacts", "notices", "latest_metrics", "tags"):
        assert not getattr(store, question)(gone.id)
        assert getattr(store, question)(stays.id)
    assert store.series(gone.id, "loss").points == ()
    with pytest.raises(db.RunNotFoundError):
        store.remove_run(gone.id)


def test_compacting_gives_space_back(store: db.Store, new_run) -> None:
    run = new_run()
    writer = store.writer(run.id)
    for step in range(20_000):
        writer.metrics(step, {"loss": 1.0}, at=1.0)
    writer.commit()
    store.remove_run(run.id)
    assert store.compact() > 500_000
    assert store.check() == []
