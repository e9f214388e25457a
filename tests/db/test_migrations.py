"""Stores of every earlier schema open, are brought up to date, and keep their rows."""

import ast
import math
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import db
from db import schema
from db.engine import Database

FIXTURES = Path(__file__).parent / "fixtures"
OLD_VERSIONS = schema.VERSIONS[:-1]


def _old_store(path: Path, version: str) -> None:
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as file:
        file.executescript((FIXTURES / f"store_{version}.sql").read_text())
        file.execute("PRAGMA journal_mode = WAL")


def _shape(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Columns, keys and indexes of every table, whatever the text they were made with."""
    shape: dict[str, list[tuple[object, ...]]] = {}
    with closing(sqlite3.connect(path)) as file:
        names = file.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        for (table,) in names.fetchall():
            rows = file.execute(f"PRAGMA table_xinfo({table})").fetchall()
            shape[table] = [(name, kind, *rest) for _, name, kind, *rest in rows]
            shape[f"{table} keys"] = sorted(
                row[2:] for row in file.execute(f"PRAGMA foreign_key_list({table})")
            )
            shape[f"{table} indexes"] = sorted(
                (
                    *row[2:],
                    *(column[2] for column in file.execute(f"PRAGMA index_info('{row[1]}')")),
                )
                for row in file.execute(f"PRAGMA index_list({table})")
            )
            options = file.execute(f"PRAGMA table_list({table})").fetchone()
            shape[f"{table} options"] = [options[3:]]
    return shape


def test_every_version_but_the_newest_has_a_fixture() -> None:
    assert [path.stem for path in sorted(FIXTURES.glob("*.sql"))] == [
        f"store_{version}" for version in OLD_VERSIONS
    ]


def test_the_known_versions_are_those_of_the_migrations_in_their_order() -> None:
    found: dict[str | None, str] = {}
    for path in (schema.MIGRATIONS / "versions").glob("*.py"):
        values = {
            node.targets[0].id: ast.literal_eval(node.value)  # type: ignore[attr-defined]
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign)
        }
        found[values["down_revision"]] = values["revision"]
    chain, at = [], None
    while at in found:
        at = found[at]
        chain.append(at)
    assert tuple(chain) == schema.VERSIONS


@pytest.mark.parametrize("version", OLD_VERSIONS)
def test_an_old_store_opens_and_keeps_its_rows(path: Path, version: str) -> None:
    _old_store(path, version)
    with db.open_store(path) as store:
        run = store.get_run("1s0000000a")
        assert (run.name, run.status, run.note) == (
            "first train",
            "finished",
            "kept since the first version",
        )
        assert (run.events_offset, run.events_seq, run.created_at) == (1234, 14, 1795000000.5)
        assert store.tags(run.id) == ["best"]
        points = store.series(run.id, "loss").points
        assert [point.value for point in points[:5]] == [2.0 / i for i in range(1, 6)]
        assert math.isnan(points[5].value)
        assert store.series(run.id, "lr").points[5].value == math.inf
        assert [a.path for a in store.artifacts(run.id)] == ["artifacts/adapter"]
        assert [n.text for n in store.notices(run.id)] == ["a notice of the first version"]
        scored = store.get_run("1s0000000b")
        assert (scored.pass_at_1, scored.scored, scored.parent_id) == (0.25, 2, run.id)
        verdicts = store.verdicts(scored.id, "mbpp")
        assert [(v.index, v.sample, v.passed) for v in verdicts] == [(0, 0, True), (1, 0, False)]
        assert store.get_run("1s0000000c").pass_at_1 is None
        assert store.list_runs().total == 2
        assert store.check() == []


def test_an_old_store_in_a_folder_of_any_name_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "50% of #1?" / "mft.db"
    _old_store(path, "0001")
    with db.open_store(path) as store:
        assert store.list_runs().total == 2
    assert len(list(path.parent.glob("*.backup"))) == 1


@pytest.mark.parametrize("version", OLD_VERSIONS)
def test_an_old_store_becomes_exactly_what_a_new_one_is(
    path: Path, tmp_path: Path, version: str
) -> None:
    _old_store(path, version)
    db.open_store(path).close()
    new = tmp_path / "new.db"
    db.open_store(new).close()
    assert _shape(path) == _shape(new)


def test_the_sample_that_an_old_store_had_kept_is_known_again(path: Path) -> None:
    _old_store(path, "0002")
    with db.open_store(path) as store:
        (kept,) = store.verdicts("1s0000000b", "humanevalsynthesize-python")
    assert kept == db.VerdictRecord(0, "Python/0", False, "timeout", 10.0, "", sample=1)


@pytest.mark.parametrize(
    ("total", "sample"),
    [(2, 0), (10, 4), (5, 0), (0, 0), (None, 0)],
    ids=["one-each", "five-each", "uneven", "none-counted", "no-score"],
)
@pytest.mark.parametrize("version", OLD_VERSIONS)
def test_old_verdicts_are_of_the_last_sample_that_the_score_counts(
    path: Path, version: str, total: int | None, sample: int
) -> None:
    _old_store(path, version)
    with closing(sqlite3.connect(path)) as file:
        file.execute("UPDATE task_score SET total = ? WHERE task = 'mbpp'", (total or 0,))
        if total is None:
            file.execute("DELETE FROM task_score")
        file.commit()
    with db.open_store(path) as store:
        found = [(v.index, v.sample) for v in store.verdicts("1s0000000b", "mbpp")]
    assert found == [(0, sample), (1, sample)]


@pytest.mark.parametrize("version", OLD_VERSIONS)
def test_a_backup_is_made_before_anything_changes(path: Path, version: str) -> None:
    _old_store(path, version)
    with db.open_store(path) as store:
        (warning,) = store.warnings
    (saved,) = path.parent.glob("*.backup")
    assert str(saved) in warning
    with closing(sqlite3.connect(saved)) as file:
        assert (
            file.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}").fetchone()[0] == version
        )
        assert file.execute("SELECT count(*) FROM run").fetchone()[0] == 3
    with db.open_store(path) as store:
        assert store.warnings == ()
    assert len(list(path.parent.glob("*.backup"))) == 1


def test_a_migration_that_fails_leaves_the_store_as_it_was(path: Path, tmp_path: Path) -> None:
    _old_store(path, "0001")
    migrations = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, migrations)
    (migrations / "versions" / "9999_breaks.py").write_text(
        "from alembic import op\n"
        "revision = '9999'\n"
        f"down_revision = '{schema.HEAD}'\n"
        "def upgrade():\n"
        "    op.execute('DELETE FROM run')\n"
        "    op.execute('SELECT * FROM no_such_table')\n"
    )
    before = _shape(path)
    database = Database(path, foreign_keys=False)
    with pytest.raises(db.StoreError, match="was undone") as told:
        schema.upgrade(database, "0001", migrations)
    database.close()
    assert "backup" in (told.value.fix or "")
    assert _shape(path) == before
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM run").fetchone()[0] == 3
    with db.open_store(path) as store:
        assert store.check() == []


def test_a_store_of_a_newer_version_is_refused_untouched(path: Path) -> None:
    db.open_store(path).close()
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
        file.commit()
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(db.StoreNewerError, match="newer mft-tui") as told:
            db.open_store(path, read_only=read_only)
        assert told.value.exit_code == 4
        assert "pip install -U mft-tui" in (told.value.fix or "")
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.backup"))


def test_an_old_store_cannot_be_brought_up_to_date_read_only(path: Path) -> None:
    _old_store(path, "0001")
    with pytest.raises(db.StoreError, match="old schema 0001"):
        db.open_store(path, read_only=True)


@pytest.mark.parametrize("version", OLD_VERSIONS)
def test_an_old_store_can_be_taken_into_a_new_one(
    store: db.Store, tmp_path: Path, version: str
) -> None:
    other = tmp_path / "old" / "mft.db"
    _old_store(other, version)
    assert store.merge(other).added == ("1s0000000a", "1s0000000b", "1s0000000c")
    assert store.get_run("1s0000000b").pass_at_1 == 0.25
    assert [v.passed for v in store.verdicts("1s0000000b", "mbpp")] == [True, False]
    with closing(sqlite3.connect(other)) as file:
        found = file.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}").fetchone()
    assert found == (version,)
