"""Runs in the store: made, found by prefix, and moved from status to status."""

import subprocess
import sys
from dataclasses import fields

import pytest

import db
from db import tables


def test_importing_the_package_loads_no_database_library() -> None:
    code = "import sys, db; print({'sqlalchemy', 'sqlmodel', 'alembic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_opening_a_store_of_today_does_not_load_alembic(store: db.Store) -> None:
    code = (
        "import sys, db; from pathlib import Path; db.open_store(Path(sys.argv[1])).close();"
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_record_has_exactly_the_columns_of_the_table() -> None:
    assert {f.name for f in fields(db.RunRecord)} == set(tables.run.c.keys())


def test_a_run_comes_back_as_it_was_inserted(store: db.Store) -> None:
    record = db.RunRecord(
        id=db.new_run_id(),
        kind="train",
        name="first – ünïcode",
        created_at=1.5,
        supervisor_started=1234567.25,
        config='{"a": [1, 2]}',
    )
    store.insert_run(record)
    assert store.get_run(record.id) == record


def test_the_same_id_cannot_be_inserted_twice(store: db.Store, new_run) -> None:
    record = new_run()
    with pytest.raises(db.DuplicateRunError, match="already"):
        store.insert_run(record)


def test_a_unique_prefix_finds_the_run_in_either_case(store: db.Store, new_run) -> None:
    new_run(id="1aaaaaaaaa")
    wanted = new_run(id="1aab000000")
    assert store.get_run("1AAB").id == wanted.id
    assert store.get_run(" 1aab ").id == wanted.id


def test_a_whole_id_wins_over_longer_ones(store: db.Store, new_run) -> None:
    new_run(id="1aaa")
    new_run(id="1aaab")
    assert store.get_run("1aaa").id == "1aaa"


def test_an_ambiguous_prefix_names_the_candidates(store: db.Store, new_run) -> None:
    new_run(id="1aaa", name="one")
    new_run(id="1aab")
    with pytest.raises(db.AmbiguousRunError, match=r"1aaa \(one\), 1aab \(train\)") as told:
        store.get_run("1a")
    assert told.value.exit_code == 2


@pytest.mark.parametrize("given", ["", "zzz", "%", "1_", "'; drop table run"])
def test_what_matches_no_run_is_said_to(store: db.Store, new_run, given: str) -> None:
    new_run(id="1aaa")
    with pytest.raises(db.RunNotFoundError) as told:
        store.get_run(given)
    assert told.value.exit_code == 5


def test_a_transition_happens_once(store: db.Store, new_run) -> None:
    run = new_run()
    assert store.transition(run.id, "running", expected={"queued"}, job_pid=7)
    assert not store.transition(run.id, "running", expected={"queued"}, job_pid=8)
    assert store.get_run(run.id).job_pid == 7


def test_a_transition_of_an_unknown_run_is_an_error(store: db.Store) -> None:
    with pytest.raises(db.RunNotFoundError):
        store.transition("nobody", "running", expected={"queued"})


def test_a_status_that_is_none_is_refused(store: db.Store, new_run) -> None:
    with pytest.raises(ValueError, match="no status"):
        store.transition(new_run().id, "done", expected={"queued"})


def test_children_are_listed_oldest_first(store: db.Store, new_run) -> None:
    parent = new_run()
    children = [new_run(parent_id=parent.id) for _ in range(3)]
    assert [run.id for run in store.children(parent.id)] == [run.id for run in children]


def test_ids_sort_as_they_were_made_and_are_unlike_each_other() -> None:
    ids = [db.new_run_id(lambda at=at: 1_800_000_000 + at / 32) for at in range(2000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 2000
    assert {len(i) for i in ids} == {10}


def test_ids_of_one_moment_differ_by_chance() -> None:
    ids = {db.new_run_id(lambda: 1_800_000_000.0) for _ in range(50)}
    assert len(ids) > 45
