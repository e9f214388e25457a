"""Opening the store: whatever the file is, either a store that works comes out or one clear error.

The usual case (a store of the newest schema in the right journal mode) reads two small facts and
is done. Everything rarer (a new file, an old schema, another journal mode) is done by one process
at a time behind a lock file, because SQLite's own lock does not cover it: two processes that switch
a new file to WAL at once would refuse each other.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection

from db import schema
from db.engine import Database, read_only_error
from db.errors import StoreError, StoreFullError, StoreMissingError
from db.filesystem import file_system_of, is_network
from db.store import Store


def open_store(
    path: Path,
    *,
    read_only: bool = False,
    file_system: Callable[[Path], str] = file_system_of,
) -> Store:
    """Open the store at ``path``; make it, or bring it up to date (with a backup), where needed.

    ``file_system`` tells the type of the file system under a path. ``Store.warnings`` holds what a
    person should know about this store. Raises ``StoreError`` or one of its kin.
    """
    path = path.absolute()
    kind = file_system(path.parent)
    shared_memory = not is_network(kind)
    warnings: list[str] = []
    if not shared_memory:
        warnings.append(
            f"{path} is on a network file system ({kind}): SQLite's WAL and mmap are not used "
            "there, so writing is slower; set MFT_HOME to a local disk if several machines do not "
            "need it"
        )
    if read_only:
        return _open_read_only(path, shared_memory=shared_memory, warnings=warnings)
    if path.exists() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise read_only_error(path)
    _make_folder(path.parent)
    database = Database(path, shared_memory=shared_memory)
    try:
        with database.translating():
            if not _is_ready(database):
                with _alone(path):
                    warnings += _make_ready(database)
    except BaseException:
        database.close()
        raise
    return Store(database, warnings=tuple(warnings))


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """A copy of another store, brought up to this schema, for as long as the block lasts.

    The file itself is only read, so it may be on read-only media or in use. Raises ``StoreError``.
    """
    if not path.is_file():
        raise StoreMissingError("there is no store here", where=str(path))
    with TemporaryDirectory(prefix="mft-store-") as folder:
        copy = Path(folder) / "copy.db"
        database = Database(path, read_only=True, immutable=_is_still(path))
        try:
            with database.translating(), closing(sqlite3.connect(copy)) as target:
                database.copy_into(target)
        finally:
            database.close()
        open_store(copy).close()
        yield copy


def _open_read_only(path: Path, *, shared_memory: bool, warnings: list[str]) -> Store:
    if not path.exists():
        raise StoreMissingError(
            "there is no store here yet",
            where=str(path),
            fix="Start a run, or set MFT_HOME to the folder that has one.",
        )
    try:
        database, version = _opened(path, shared_memory=shared_memory, immutable=_is_still(path))
    except StoreFullError:
        if not _has_no_log(path):
            raise
        # No room for the shared-memory file, and nobody else has one.
        database, version = _opened(path, shared_memory=shared_memory, immutable=True)
    if version != schema.HEAD:
        database.close()
        raise StoreError(
            f"the store has the old schema {version}, and reading only cannot bring it up to date",
            where=str(path),
            fix="Run `mft-tui runs list` once where the store can be written.",
        )
    return Store(database, warnings=tuple(warnings))


def _opened(path: Path, *, shared_memory: bool, immutable: bool) -> tuple[Database, str | None]:
    database = Database(path, read_only=True, immutable=immutable, shared_memory=shared_memory)
    try:
        with database.translating(), database.reading() as connection:
            return database, _version(connection, path)
    except BaseException:
        database.close()
        raise


def _is_still(path: Path) -> bool:
    """Whether nobody can change the file while it is read.

    A WAL store needs its shared-memory file even to be read; where nobody can make one, and nobody
    left a log, SQLite must be told that it can do without.
    """
    return not os.access(path.parent, os.W_OK) and _has_no_log(path)


def _has_no_log(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return not log.exists() or log.stat().st_size == 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreMissingError(
            f"the folder for the store cannot be made ({error.strerror})",
            where=str(folder),
            fix="Set MFT_HOME to a folder that you may write.",
        ) from error


def _is_ready(database: Database) -> bool:
    if not database.path.exists() or database.path.stat().st_size == 0:
        return False
    if (_journal_mode(database) == "wal") != (database.journal_mode == "wal"):
        return False
    with database.reading() as connection:
        return _version(connection, database.path) == schema.HEAD


def _make_ready(database: Database) -> list[str]:
    """Make the store, or bring it up to date; whoever comes second finds nothing left to do."""
    _touch(database.path)
    warnings = []
    set_to = _set_journal_mode(database)
    if set_to != database.journal_mode:
        warnings.append(
            f"{database.path}: SQLite cannot use the journal mode {database.journal_mode} here and "
            f"uses {set_to}; readers will wait for writers"
        )
    with database.reading() as connection:
        version = _version(connection, database.path)
    if version is None:
        with database.writing() as connection:
            schema.create(connection)
    elif version != schema.HEAD:
        saved = _upgraded(database, version)
        warnings.append(f"the store was brought up to date; the old one is kept as {saved}")
    return warnings


def _upgraded(database: Database, version: str) -> Path:
    # SQLite changes a table by making it anew; with foreign keys on, dropping the old one would
    # take every row that points to it along.
    plain = Database(database.path, foreign_keys=False)
    try:
        return schema.upgrade(plain, version)
    finally:
        plain.close()


def _version(connection: Connection, path: Path) -> str | None:
    version = schema.read_version(connection, path)
    if version is not None:
        schema.check_known(version, path)
    return version


def _touch(path: Path) -> None:
    try:
        path.touch()
    except OSError as error:
        raise read_only_error(path) from error


def _journal_mode(database: Database) -> str:
    """The mode that the file is in, asked of SQLite.

    Reading the header ourselves would, on closing the file, drop every lock that this process has
    on it through another store, and a neighbour could then delete that store's log.
    """
    with closing(sqlite3.connect(database.path, timeout=database.busy_timeout)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def _set_journal_mode(database: Database) -> str:
    with closing(
        sqlite3.connect(database.path, timeout=database.busy_timeout, isolation_level=None)
    ) as connection:
        asked = f"PRAGMA journal_mode = {database.journal_mode}"
        return str(connection.execute(asked).fetchone()[0])


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock file beside the store."""
    lock = path.with_name(path.name + ".lock")
    try:
        handle = lock.open("w")
    except OSError as error:
        raise read_only_error(path) from error
    with handle:
        # Some network file systems have no locks; there, nothing better is to be had.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
