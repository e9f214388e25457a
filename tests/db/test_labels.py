"""What people say about runs."""

import pytest

import db


def test_tags_hang_once_and_come_off(store: db.Store, new_run) -> None:
    run = new_run()
    store.tag(run.id, ["best", "paper"])
    store.tag(run.id, ["best"])
    assert store.tags(run.id) == ["best", "paper"]
    assert store.untag(run.id, ["paper", "never-there"]) == ["paper"]
    assert store.tags(run.id) == ["best"]


@pytest.mark.parametrize("name", ["", "two words", "a,b", 'say"', "a*", "(x)", "x" * 65])
def test_a_tag_that_no_filter_could_name_is_refused(store: db.Store, new_run, name: str) -> None:
    run = new_run()
    with pytest.raises(db.QueryError, match="cannot be a tag"):
        store.tag(run.id, ["fine", name])
    assert store.tags(run.id) == []


def test_all_tags_are_counted(store: db.Store, new_run) -> None:
    store.tag(new_run().id, ["a", "b"])
    store.tag(new_run().id, ["b"])
    assert store.all_tags() == {"a": 1, "b": 2}


def test_a_note_and_a_name_replace_what_was_there(store: db.Store, new_run) -> None:
    run = new_run(name="old")
    store.set_note(run.id, "one\ntwo")
    store.rename(run.id, "new")
    after = store.get_run(run.id)
    assert (after.note, after.name) == ("one\ntwo", "new")


def test_a_run_goes_to_the_trash_and_back(store: db.Store, new_run) -> None:
    run = new_run()
    store.trash(run.id)
    assert store.list_runs().total == 0
    assert store.get_run(run.id).trashed_at is not None
    store.restore(run.id)
    assert store.list_runs().total == 1


@pytest.mark.parametrize("change", ["tag", "untag"])
def test_tagging_an_unknown_run_is_an_error(store: db.Store, change: str) -> None:
    with pytest.raises(db.RunNotFoundError):
        getattr(store, change)("nobody", ["x"])
