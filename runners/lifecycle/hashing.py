"""Content hashes of inputs, each file read once as long as it does not change.

A base model of 15 GB takes most of a minute to hash, and it is the same one in every run. So the
hash of a file is kept under its path, size, modification time and inode. Kept in a small SQLite
file of its own and not in the store: it is a cache, and losing it costs only time.
"""

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int], None]
"""Told (bytes hashed, bytes in all) now and then."""

_PROGRESS_SECONDS = 0.2
_READ = 1 << 20

_SETTLED_SECONDS = 2.0
"""A file younger than this may change again without its modification time showing it."""


@dataclass(frozen=True)
class FileHash:
    """One file's content. ``path`` is relative to the input, "" when the input is the file."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class ContentHash:
    """An input's content: of a file its SHA-256, of a folder that of its names and hashes.

    The folder's digest is the one that jobs record for their artifacts, so that the two compare.
    """

    sha256: str
    bytes: int
    files: tuple[FileHash, ...]


class HashCache:
    """Hashes by path, size, modification time and inode, kept in the SQLite file ``path``.

    A cache that cannot be read or written is as good as empty. Safe to use from several threads.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def hash_path(self, path: Path, on_progress: Progress | None = None) -> ContentHash:
        """Hash a file or a folder. Raises ``OSError`` when something in it cannot be read."""
        files = (
            [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        )
        digests = self._hash_files(files, on_progress)
        if path.is_file():
            digest, size = digests[path]
            return ContentHash(digest, size, (FileHash("", digest, size),))
        rows = tuple(FileHash(file.relative_to(path).as_posix(), *digests[file]) for file in files)
        whole = hashlib.sha256()
        for row in rows:
            whole.update(f"{row.path}\0{row.sha256}\n".encode())
        return ContentHash(whole.hexdigest(), sum(row.bytes for row in rows), rows)

    def _hash_files(
        self, files: list[Path], on_progress: Progress | None
    ) -> dict[Path, tuple[str, int]]:
        stats = {file: file.stat() for file in files}
        known = self._load(stats)
        missing = [file for file in files if file not in known]
        total = sum(stats[file].st_size for file in missing)
        work = _Work()
        # Reading and hashing both let go of the interpreter's lock.
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            hashed = {pool.submit(work.sha256, file, stats[file].st_size): file for file in missing}
            waiting = set(hashed)
            try:
                while waiting:
                    ended, waiting = wait(waiting, _PROGRESS_SECONDS, FIRST_EXCEPTION)
                    for future in ended:
                        future.result()
                    if on_progress:
                        on_progress(min(work.done, total), total)  # a file may grow meanwhile
            except BaseException:
                # The pool waits for its threads, and whoever interrupts this for a pool of
                # gigabytes: so they are told.
                work.given_up = True
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        fresh = {file: future.result() for future, file in hashed.items()}
        self._keep({file: (stats[file], digest) for file, digest in fresh.items()})
        return {file: ((known | fresh)[file], stats[file].st_size) for file in files}

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=2.0)) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS hash (path TEXT PRIMARY KEY, size INTEGER, "
                "mtime_ns INTEGER, inode INTEGER, sha256 TEXT) WITHOUT ROWID"
            )
            with connection:
                yield connection

    def _load(self, stats: Mapping[Path, os.stat_result]) -> dict[Path, str]:
        found = {}
        with contextlib.suppress(sqlite3.Error), self._open() as connection:
            for file, stat in stats.items():
                row = connection.execute(
                    "SELECT sha256 FROM hash "
                    "WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?",
                    (str(file.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ino),
                ).fetchone()
                if row:
                    found[file] = row[0]
        return found

    def _keep(self, fresh: Mapping[Path, tuple[os.stat_result, str]]) -> None:
        settled = self._clock() - _SETTLED_SECONDS
        rows = [
            (str(file.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ino, digest)
            for file, (stat, digest) in fresh.items()
            if max(stat.st_mtime, stat.st_ctime) < settled
        ]
        if rows:
            with contextlib.suppress(sqlite3.Error), self._open() as connection:
                connection.executemany("INSERT OR REPLACE INTO hash VALUES (?, ?, ?, ?, ?)", rows)


class _Work:
    """What the hashing threads share: how many bytes they have done, and whether to go on."""

    def __init__(self) -> None:
        self.done = 0
        self.given_up = False
        self._lock = threading.Lock()

    def sha256(self, path: Path, size: int) -> str:
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(min(_READ, size + 1)))
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                with self._lock:
                    self.done += count
                if self.given_up:
                    raise InterruptedError(f"hashing was given up: {path}")
        return digest.hexdigest()
