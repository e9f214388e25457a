"""Opening: whatever the file and its disk are, a store that works or one clear error."""

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

import db
from db.filesystem import file_system_of, is_network
from db.opening import open_store
from db.repair import salvage, set_aside

PROJECT = Path(__file__).resolve().parents[2]


def _pragma(store: db.Store, name: str) -> object:
    with store._database.reading() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_a_new_store_is_what_the_design_says(path: Path) -> None:
    with db.open_store(path) as store:
        assert store.warnings == ()
        assert _pragma(store, "journal_mode") == "wal"
        assert _pragma(store, "synchronous") == 1
        assert _pragma(store, "foreign_keys") == 1
        assert _pragma(store, "busy_timeout") == 30_000
        assert _pragma(store, "mmap_size") == 256 << 20
        assert store.check() == []


def test_a_store_cut_short_while_it_was_made_is_made_again(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with db.open_store(path) as store:
        assert store.list_runs().total == 0


@pytest.mark.parametrize("name", ["with space", "per%cent", "quest?ion", "hash#", "ünïcode"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    with db.open_store(tmp_path / name / "mft.db") as store:
        store.insert_run(db.RunRecord(id="1aaa", kind="train"))
    with db.open_store(tmp_path / name / "mft.db", read_only=True) as store:
        assert store.get_run("1").id == "1aaa"
    assert (tmp_path / name / "mft.db").exists()


def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE bookmarks (url)")
    with pytest.raises(db.StoreError, match=r"not one of mft-tui.*bookmarks"):
        db.open_store(path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (1,)


def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(db.StoreMissingError, match="cannot be made") as told:
        db.open_store(tmp_path / "state" / "mft.db")
    assert "MFT_HOME" in (told.value.fix or "")


def test_reading_a_store_that_is_not_there_makes_none(path: Path) -> None:
    with pytest.raises(db.StoreMissingError) as told:
        db.open_store(path, read_only=True)
    assert told.value.exit_code == 5
    assert not path.exists()


# Network file systems


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "lustre"])
def test_on_a_network_file_system_there_is_no_wal_and_the_person_is_told(
    path: Path, kind: str
) -> None:
    with open_store(path, file_system=lambda _: kind) as store:
        assert _pragma(store, "journal_mode") == "delete"
        assert _pragma(store, "mmap_size") == 0
        (warning,) = store.warnings
        assert kind in warning
        assert "WAL and mmap are not used" in warning
        store.insert_run(db.RunRecord(id="1aaa", kind="train"))
    assert not path.with_name("mft.db-wal").exists()


def test_a_store_that_moves_to_a_network_file_system_and_back_changes_its_journal(
    path: Path,
) -> None:
    for kind, mode in (("ext4", "wal"), ("nfs", "delete"), ("ext4", "wal")):
        with open_store(path, file_system=lambda _, kind=kind: kind) as store:
            assert _pragma(store, "journal_mode") == mode


MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb /home/me/fast xfs rw 0 0
me@host: /mnt/far\\040away fuse.sshfs rw 0 0
short line
tmpfs /home/me/fast/later tmpfs rw 0 0
server:/x /home/me/fast/later nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("place", "kind", "network"),
    [
        ("/var/lib", "ext4", False),
        ("/home/me/.local", "nfs4", True),
        ("/homework", "ext4", False),
        ("/home/me/fast/state", "xfs", False),
        ("/home/me/fast/later/x", "nfs", True),
        ("/mnt/far away/x", "fuse.sshfs", True),
    ],
)
def test_the_file_system_is_that_of_the_deepest_newest_mount(
    tmp_path: Path, place: str, kind: str, network: bool
) -> None:
    table = tmp_path / "mounts"
    table.write_text(MOUNTS)
    assert file_system_of(Path(place), table) == kind
    assert is_network(kind) is network


def test_where_there_is_no_mount_table_the_disk_counts_as_local(tmp_path: Path) -> None:
    assert file_system_of(tmp_path, tmp_path / "none") == ""
    assert not is_network("")
    assert not is_network("fuse.ntfs-3g")


# Damage


def _many_runs(store: db.Store, count: int = 400) -> None:
    for number in range(count):
        store.insert_run(
            db.RunRecord(id=f"1{number:06d}", kind="train", name=f"run {number}", config="x" * 900)
        )
    store.tag("1000000", ["best"])


def _read_all(store: db.Store) -> None:
    for number in range(400):
        store.get_run(f"1{number:06d}")


def _break_a_page(path: Path, table: str) -> None:
    """Overwrite the middle of the leaf pages of a table."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = file.execute("PRAGMA page_size").fetchone()[0]
        root = file.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,))
        number = root.fetchone()[0]
    content = bytearray(path.read_bytes())
    # An interior page begins with 5; its cells point to the leaves, four bytes each.
    start = (number - 1) * size
    assert content[start] == 5
    cell = int.from_bytes(content[start + 12 : start + 14], "big")
    leaf = int.from_bytes(content[start + cell : start + cell + 4], "big")
    content[(leaf - 1) * size : leaf * size] = b"\xff" * size
    path.write_bytes(content)


@pytest.mark.parametrize(
    "content", [b"not a database at all\n" * 50, b"SQLite format 3\0" + b"\7" * 4000]
)
def test_a_file_that_is_no_database_is_reported_and_kept(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(db.StoreDamagedError, match="is damaged") as told:
        db.open_store(path)
    assert told.value.where == str(path)
    assert "mft-tui runs rebuild" in (told.value.fix or "")
    assert path.read_bytes() == content


def test_a_damaged_store_is_reported_and_its_readable_runs_are_saved(path: Path) -> None:
    with db.open_store(path) as store:
        _many_runs(store)
    _break_a_page(path, "run")
    with db.open_store(path) as store:
        assert store.check() != []
        with pytest.raises(db.StoreDamagedError, match="is damaged"):
            _read_all(store)
    saved = salvage(path)
    assert 350 < len(saved.cards) < 400
    assert saved.problems
    assert saved.cards[-1]["run"]["name"] == "run 399"
    aside = set_aside(path)
    assert aside.exists()
    assert not path.exists()
    with db.open_store(path) as store:
        for card in saved.cards:
            assert store.import_card(card, path.parent / "runs" / card["run"]["id"])
        assert store.list_runs().total == len(saved.cards)
        assert store.check() == []


def test_salvaging_a_sound_store_loses_nothing(path: Path) -> None:
    with db.open_store(path) as store:
        _many_runs(store, 20)
    saved = salvage(path)
    assert (len(saved.cards), saved.problems) == (20, ())
    assert saved.cards[0]["tags"] == ["best"]


def test_salvaging_what_is_no_database_tells_so(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"nothing" * 1000)
    saved = salvage(tmp_path / "x.db")
    assert saved.cards == ()
    assert "not a database" in saved.problems[0]


# Real disks that are full or read-only, in a mount namespace of the test's own


def _inside(script: str, *mounts: str) -> str:
    """What a Python script prints that runs with other mounts."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("needs bubblewrap (apt install bubblewrap) for a disk of its own")
    argv = [bwrap, "--bind", "/", "/", "--dev-bind", "/dev", "/dev", *mounts]
    argv += [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(
        argv, capture_output=True, text=True, cwd=PROJECT, env={**os.environ, "PYTHONPATH": "."}
    )
    if "bwrap: " in done.stderr:
        pytest.skip(f"bubblewrap cannot mount here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_is_one_message_and_nothing_is_lost_when_there_is_room_again(
    tmp_path: Path,
) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    script = f"""
    import db
    from pathlib import Path
    folder = Path({str(mount)!r})
    store = db.open_store(folder / "mft.db")
    store.insert_run(db.RunRecord(id="1aaa", kind="train"))
    writer = store.writer("1aaa")
    filler = (folder / "filler").open("wb", buffering=0)
    try:
        while True:
            filler.write(bytes(4096))
    except OSError:
        filler.close()
    for step in range(50_000):
        writer.metrics(step, {{"loss": 1.0 * step}}, at=1.0)
    for attempt in range(2):
        try:
            writer.commit(events_offset=5, events_seq=5)
        except db.StoreFullError as error:
            print("full:", error.what)
    print("stored:", store.get_run("1aaa").events_seq, len(store.series("1aaa", "loss").points))
    (folder / "filler").unlink()
    print("again:", writer.commit(events_offset=5, events_seq=5))
    print("last:", store.latest_metrics("1aaa")["loss"].value, store.check())
    """
    told = _inside(script, "--size", str(12 << 20), "--tmpfs", str(mount)).splitlines()
    message = "full: the disk is full, so the store keeps what it had and takes nothing new"
    assert told == [message, message, "stored: 0 0", "again: True", "last: 49999.0 []"]


def test_a_full_disk_is_told_when_the_store_is_to_be_made(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    script = f"""
    import db
    from pathlib import Path
    folder = Path({str(mount)!r})
    try:
        with (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
    except OSError:
        pass
    try:
        db.open_store(folder / "mft.db")
    except db.StoreError as error:
        print(type(error).__name__)
    """
    assert _inside(script, "--size", str(1 << 20), "--tmpfs", str(mount)) == "StoreFullError\n"


def test_a_read_only_disk_is_one_message_and_can_still_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "fixed"
    with db.open_store(folder / "mft.db") as store:
        store.insert_run(db.RunRecord(id="1aaa", kind="train", name="kept"))
    script = f"""
    import db
    from pathlib import Path
    path = Path({str(folder)!r}) / "mft.db"
    try:
        db.open_store(path)
    except db.StoreReadOnlyError as error:
        print(error.what, "|", error.fix)
    with db.open_store(path, read_only=True) as store:
        print(store.get_run("1").name)
        try:
            store.rename("1aaa", "x")
        except db.StoreReadOnlyError as error:
            print(error.what)
    """
    assert _inside(script, "--ro-bind", str(folder), str(folder)).splitlines() == [
        "the store cannot be written | Make the file and its folder writable, or point MFT_HOME "
        "at another folder.",
        "kept",
        "the store was opened for reading only",
    ]


def test_a_store_read_only_for_us_sees_what_others_write(path: Path) -> None:
    with db.open_store(path) as store, db.open_store(path, read_only=True) as reader:
        store.insert_run(db.RunRecord(id="1aaa", kind="train"))
        assert reader.get_run("1aaa").kind == "train"
        with pytest.raises(db.StoreReadOnlyError):
            reader.rename("1aaa", "x")


def test_opening_a_store_twice_keeps_what_the_first_still_writes(tmp_path: Path) -> None:
    path = tmp_path / "mft.db"

    def elsewhere(action: str) -> None:
        """Another process opens the store, does something, and leaves: the last one tidies up."""
        program = f"import db, pathlib; s = db.open_store(pathlib.Path({str(path)!r}))"
        subprocess.run(
            [sys.executable, "-c", f"{program}; {action}; s.close()"],
            check=True,
            cwd=Path(__file__).parents[2],
        )

    with open_store(path) as first:
        first.insert_run(db.RunRecord(id="1aaa", kind="train"))
        with open_store(path):
            pass
        elsewhere("s.insert_run(db.RunRecord(id='1bbb', kind='train'))")
        first.insert_run(db.RunRecord(id="1ccc", kind="train"))
        elsewhere("s.get_run('1aaa'), s.get_run('1bbb'), s.get_run('1ccc')")
