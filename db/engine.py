"""One SQLite file, opened the way many processes can share it.

Transactions that write begin IMMEDIATE: they wait for their turn before they read anything, so
none of them is thrown out half-way. Whoever finds the file locked waits and tries again; what
SQLite says in numbers is told in sentences here, and nowhere else.
"""

import errno
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from db.errors import (
    StoreBusyError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
)

BUSY_TIMEOUT_S = 30.0
PATIENCE_S = 120.0
"""How long a transaction tries to begin before it gives up, over several busy timeouts."""
_MMAP_BYTES = 256 << 20
_CACHE_KIB = 16 << 10
_LOG_BYTES = 64 << 20
"""What the log is cut to after one large transaction; it would keep its size for ever."""
_LOW_DISK_BYTES = 1 << 20
_READ, _WRITE = "BEGIN", "BEGIN IMMEDIATE"


class Database:
    """Connections to the file, and the two kinds of transaction.

    ``shared_memory`` is False on file systems where WAL and mmap are not safe. Safe to use from
    several threads. Raises ``StoreError`` and its kin, never the driver's errors.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        immutable: bool = False,
        shared_memory: bool = True,
        foreign_keys: bool = True,
        busy_timeout: float = BUSY_TIMEOUT_S,
        patience: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = path
        self.read_only = read_only
        self.journal_mode = "wal" if shared_memory else "delete"
        self.busy_timeout = busy_timeout
        self._shared_memory = shared_memory
        self._foreign_keys = foreign_keys
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        mode = "ro" if read_only else "rw"
        uri = f"file:{quote(str(path))}?mode={mode}" + ("&immutable=1" if immutable else "")

        def connect() -> sqlite3.Connection:
            # isolation_level None: we begin our transactions ourselves.
            return sqlite3.connect(
                uri,
                uri=True,
                timeout=busy_timeout,
                isolation_level=None,
                check_same_thread=False,
            )

        self.engine: Engine = create_engine(
            "sqlite://", creator=connect, poolclass=QueuePool, pool_size=4, max_overflow=28
        )
        event.listen(self.engine, "connect", self._prepare)
        event.listen(self.engine, "begin", _begin)

    def _prepare(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA busy_timeout = {int(self.busy_timeout * 1000)}")
        connection.execute(f"PRAGMA foreign_keys = {'ON' if self._foreign_keys else 'OFF'}")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA mmap_size = {_MMAP_BYTES if self._shared_memory else 0}")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One snapshot: everything read inside is of the same moment."""
        with self._transaction(_READ) as connection:
            yield connection

    @contextmanager
    def writing(self, other: Path | None = None) -> Iterator[Connection]:
        """One change, kept whole or not at all; with another file attached as ``other``."""
        if self.read_only:
            raise StoreReadOnlyError("the store was opened for reading only", where=str(self.path))
        with self._transaction(_WRITE, other) as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str, other: Path | None = None) -> Iterator[Connection]:
        with self.translating():
            connection = self._begun(begin, other)
            try:
                yield connection
                if begin != _READ:
                    connection.commit()
            finally:
                _hand_back(connection, other)

    def _begun(self, begin: str, other: Path | None) -> Connection:
        """A connection inside a transaction that cannot be refused for a lock any more."""
        deadline = self._clock() + self._patience
        while True:
            connection = None
            try:
                connection = self.engine.connect().execution_options(mft_begin=begin)
                if other is not None:
                    _attach(connection, other)
                connection.begin()
                # A deferred BEGIN takes no lock; the first read does.
                connection.exec_driver_sql("SELECT 1 FROM sqlite_schema LIMIT 1").close()
            except DBAPIError as error:
                if connection is not None:
                    _hand_back(connection, other)
                if not _is_busy(error.orig) or self._clock() > deadline:
                    raise
                self._sleep(random.uniform(0.01, 0.1))
            else:
                return connection

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Turn what the driver raises into a ``StoreError``."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            told = self._told(error.orig if isinstance(error, DBAPIError) else error)
            if told is None:
                raise
            raise told from error

    def copy_into(self, target: sqlite3.Connection) -> None:
        """Copy the whole file, as it is at one moment, into another open one."""
        with self.reading() as connection:
            source = connection.connection.driver_connection
            assert isinstance(source, sqlite3.Connection)
            source.backup(target)

    def vacuum(self) -> None:
        """Write the file anew without holes, and cut the log."""
        if self.read_only:
            raise read_only_error(self.path)
        with self.translating(), closing(self.engine.raw_connection()) as connection:
            connection.cursor().execute("VACUUM")
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def size(self) -> int:
        """Bytes of the file and its log."""
        log = self.path.with_name(self.path.name + "-wal")
        return self.path.stat().st_size + (log.stat().st_size if log.exists() else 0)

    def _told(self, error: object) -> StoreError | None:
        """The sentence for an error of SQLite's; None where it is our own fault."""
        where = str(self.path)
        match _primary_code(error):
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
                return StoreBusyError(
                    f"another process has kept the store busy for {self._patience:.0f} s",
                    where=where,
                    fix="See which one it is with `fuser -v` on that file, and try again.",
                )
            case sqlite3.SQLITE_FULL:
                return self._full()
            case sqlite3.SQLITE_IOERR if self._disk_is_full():
                return self._full()
            case sqlite3.SQLITE_IOERR:
                return StoreError(
                    f"reading or writing the store failed ({error})",
                    where=where,
                    fix="Look at the disk (`dmesg`, `df`); what was stored before is untouched.",
                )
            case sqlite3.SQLITE_READONLY:
                return read_only_error(self.path)
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return damaged_error(self.path, str(error))
            case sqlite3.SQLITE_CANTOPEN:
                return StoreError(
                    "the store cannot be opened",
                    where=where,
                    fix="Check that its folder exists and that you may read and write it.",
                )
        return None

    def _full(self) -> StoreFullError:
        return StoreFullError(
            "the disk is full, so the store keeps what it had and takes nothing new",
            where=str(self.path),
            fix="Free some space; what runs write to their event files is read in later.",
        )

    def _disk_is_full(self) -> bool:
        # A WAL that cannot grow is reported as a plain I/O error.
        try:
            return shutil.disk_usage(self.path.parent).free < _LOW_DISK_BYTES
        except OSError as error:
            return error.errno == errno.ENOSPC

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def read_only_error(path: Path) -> StoreReadOnlyError:
    """The one message for a store that cannot be written."""
    return StoreReadOnlyError(
        "the store cannot be written",
        where=str(path),
        fix="Make the file and its folder writable, or point MFT_HOME at another folder.",
    )


def damaged_error(path: Path, detail: str) -> StoreDamagedError:
    """The one message for a store whose file is broken."""
    return StoreDamagedError(
        f"the store is damaged ({detail})",
        where=str(path),
        fix="The runs are safe in their folders: `mft-tui runs rebuild --yes` keeps this file "
        "aside and makes a new store from them.",
    )


def _hand_back(connection: Connection, other: Path | None) -> None:
    """Roll back what is still open, and give the connection to whoever needs one next."""
    if other is not None:
        # What is attached stays attached, so nobody else may get this one.
        connection.invalidate()
    connection.close()


def _attach(connection: Connection, other: Path) -> None:
    # Through the driver: SQLAlchemy would begin a transaction, and inside one nothing is attached.
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.execute("ATTACH DATABASE ? AS other", (str(other),))


def _begin(connection: Connection) -> None:
    begin = connection.get_execution_options().get("mft_begin", _READ)
    connection.exec_driver_sql(begin)


def _primary_code(error: object) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _is_busy(error: object) -> bool:
    return _primary_code(error) in {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
    }
