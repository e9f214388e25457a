"""Where training data lies: task folders, their files, and those files as blocks of lines.

A folder is a task and its name is the task's name. Files are read in blocks of some hundred
kilobytes, so memory stays flat whatever a file's size, and a plain file can be cut into byte ranges
that several processes read at once.
"""

import gzip
import io
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, cast

import zstandard

from runners.errors import JobFailedError, MissingInputError, UsageError

Compression = Literal["plain", "gz", "zst"]

BLOCK_BYTES = 1 << 17
"""Bytes read at a time: enough to decode at full speed, few enough to stay in a core's cache."""

_TAIL_BYTES = 1 << 13
"""Bytes read at a time to find the end of a block's last line."""

RANGE_BYTES = 1 << 23
"""Bytes of a plain file that one worker takes at a time."""

_SUFFIXES: dict[str, Compression] = {
    ".jsonl": "plain",
    ".jsonl.gz": "gz",
    ".jsonl.zst": "zst",
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class DamagedFileError(JobFailedError):
    """A compressed file cannot be read on from some place; all before it was given."""


@dataclass(frozen=True)
class DataFile:
    """A JSONL file, plain or compressed; ``size`` is in bytes on disk."""

    path: Path
    size: int
    compression: Compression


@dataclass(frozen=True)
class TaskFolder:
    """A task: the folder's name, and its JSONL files by name."""

    name: str
    path: Path
    files: tuple[DataFile, ...]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class ByteRange:
    """The lines of a file that begin in ``[start, stop)``; ``stop`` None means to the end.

    Only plain files are cut; a compressed one is a single range.
    """

    file: DataFile
    start: int = 0
    stop: int | None = None

    @property
    def size(self) -> int:
        """Bytes on disk that this range covers."""
        return (self.file.size if self.stop is None else self.stop) - self.start


def find_tasks(paths: Sequence[Path]) -> list[TaskFolder]:
    """The tasks in ``paths``, in the order given.

    A folder with JSONL files is a task; a folder without any stands for those of its subfolders
    that have some. Folders of one name get as many parents' names in front as tell them apart.

    Raises ``MissingInputError`` when a folder is not there or holds no JSONL file, ``UsageError``
    when one is given twice.
    """
    folders = [task for path in paths for task in _tasks_under(Path(path))]
    seen: set[Path] = set()
    for folder in folders:
        if (real := folder.path.resolve()) in seen:
            raise UsageError(
                "this data folder is given twice",
                where=str(folder.path),
                fix="Give it once; task_weights makes a task count for more.",
            )
        seen.add(real)
    places = [folder.path.parent.resolve() / folder.name for folder in folders]
    return [
        replace(folder, name=name)
        for folder, name in zip(folders, _told_apart(places), strict=True)
    ]


def _told_apart(places: Sequence[Path]) -> list[str]:
    """For each of different paths, as few of its last parts as no other one ends in."""
    parts = [1] * len(places)
    while True:
        names = ["/".join(place.parts[-n:]) for place, n in zip(places, parts, strict=True)]
        counts = Counter(names)
        if len(counts) == len(names):
            return names
        parts = [n + (counts[name] > 1) for n, name in zip(parts, names, strict=True)]


def _tasks_under(path: Path) -> list[TaskFolder]:
    if not path.exists():
        raise MissingInputError(
            "this data folder is not there",
            where=str(path),
            fix="Give the folder of a task, with .jsonl files in it.",
        )
    if not path.is_dir():
        raise MissingInputError(
            "this is a file, and a task is a folder of .jsonl files",
            where=str(path),
            fix=f"Give its folder: {path.parent}",
        )
    if files := _files_in(path):
        return [TaskFolder(path.resolve().name, path, files)]
    subfolders = [(p, _files_in(p)) for p in sorted(path.iterdir()) if p.is_dir()]
    tasks = [TaskFolder(p.name, p, files) for p, files in subfolders if files]
    if not tasks:
        raise MissingInputError(
            "there is no .jsonl, .jsonl.gz or .jsonl.zst file in this folder",
            where=str(path),
            fix="Put the task's records there, one JSON object a line.",
        )
    return tasks


def _files_in(folder: Path) -> tuple[DataFile, ...]:
    found = []
    for path in sorted(folder.iterdir()):
        for suffix, compression in _SUFFIXES.items():
            if path.name.endswith(suffix) and path.is_file():
                found.append(DataFile(path, path.stat().st_size, compression))
    return tuple(found)


def byte_ranges(file: DataFile, size: int = RANGE_BYTES) -> list[ByteRange]:
    """Cut a plain file into ranges of about ``size`` bytes; a compressed file is one range."""
    if file.compression != "plain" or file.size <= size:
        return [ByteRange(file)]
    cuts = list(range(0, file.size, size))
    return [ByteRange(file, a, b) for a, b in zip(cuts, [*cuts[1:], file.size], strict=True)]


@dataclass
class Reading:
    """How far a range has been read: ``done`` bytes on disk, compressed ones as they lie there."""

    done: int = 0


def read_blocks(
    part: ByteRange, block_bytes: int = BLOCK_BYTES, reading: Reading | None = None
) -> Iterator[bytes]:
    """Yield the range's lines, newlines kept, in blocks of whole lines of about ``block_bytes``.

    ``reading`` is kept up to date. A byte order mark at the head of a file is left out. Raises
    ``DamagedFileError`` when a compressed file is damaged or cut short, after all whole lines that
    could be read.
    """
    reading = reading or Reading()
    if part.file.compression == "plain":
        blocks = _plain_blocks(part, block_bytes, reading)
    else:
        blocks = _decompressed_blocks(part.file, block_bytes, reading)
    at_head = part.start == 0
    for block in blocks:
        yield block.removeprefix(_BYTE_ORDER_MARK) if at_head else block
        at_head = False


def _plain_blocks(part: ByteRange, block_bytes: int, reading: Reading) -> Iterator[bytes]:
    """Each block is read in one piece, its end found first: joining pieces would copy it again."""
    descriptor = os.open(part.file.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # A line belongs to the range it begins in, so the tail of the line before is not ours.
        at = _line_end(descriptor, part.start - 1) if part.start > 0 else 0
        while part.stop is None or at < part.stop:
            left = block_bytes if part.stop is None else min(block_bytes, part.stop - at)
            block = os.pread(descriptor, _line_end(descriptor, at + left - 1) - at, at)
            if not block:
                break
            at += len(block)
            reading.done = at - part.start
            yield block
    finally:
        os.close(descriptor)


def _line_end(descriptor: int, at: int) -> int:
    """The place behind the first newline at or behind ``at``, or the end of the file."""
    while tail := os.pread(descriptor, _TAIL_BYTES, at):
        if (found := tail.find(b"\n")) >= 0:
            return at + found + 1
        at += len(tail)
    return at


def _decompressed_blocks(file: DataFile, block_bytes: int, reading: Reading) -> Iterator[bytes]:
    damage: list[Exception] = []
    with file.path.open("rb") as packed, _decompressed(file, packed, damage) as stream:
        while block := stream.read(block_bytes):
            if not block.endswith(b"\n"):
                block += stream.readline()
            if damage:
                # The line that the damage cuts off would only be told as a second fault.
                block = block[: block.rfind(b"\n") + 1]
            reading.done = packed.tell()
            if block:
                yield block
    if damage:
        raise DamagedFileError(
            f"the compressed file is damaged ({damage[0]})",
            where=str(file.path),
            fix="Compress it again, or fetch it again.",
        ) from damage[0]


def lines_of(block: bytes) -> list[bytes]:
    """The lines of a block, without their newlines."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def read_lines(part: ByteRange) -> Iterator[bytes]:
    """Yield the range's lines, without their newlines."""
    for block in read_blocks(part):
        yield from lines_of(block)


def _decompressed(file: DataFile, packed: BinaryIO, damage: list[Exception]) -> BinaryIO:
    """The text of ``packed``, the file's bytes.

    It ends where the file is damaged, and ``damage`` says how.
    """
    raw: gzip.GzipFile | _ZstdFrames
    raw = gzip.GzipFile(fileobj=packed) if file.compression == "gz" else _ZstdFrames(packed)
    return cast(BinaryIO, io.BufferedReader(_UntilDamage(raw, damage), BLOCK_BYTES))


class _UntilDamage(io.RawIOBase):
    """A decompressed stream that ends where it cannot be read on.

    An error raised through a buffered reader would take what was read before it along.
    """

    def __init__(self, source: "gzip.GzipFile | _ZstdFrames", damage: list[Exception]) -> None:
        self._source = source
        self._damage = damage

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        if self._damage:
            return 0
        try:
            return self._source.readinto(buffer)
        except (zstandard.ZstdError, zlib.error, gzip.BadGzipFile, EOFError) as error:
            self._damage.append(error)
            return 0

    def close(self) -> None:
        self._source.close()
        super().close()


class _ZstdFrames(io.RawIOBase):
    """The text of a file of zstd frames.

    The library's own reader takes a file that was cut short for one that ends; this one raises
    ``EOFError``.
    """

    _INPUT_BYTES = 1 << 14

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            unread = self._frame.unused_data if self._frame.eof else b""
            data = unread or self._file.read(self._INPUT_BYTES)
            if not data:
                if self._begun and not self._frame.eof:
                    raise EOFError("the file ends in the middle of a zstd frame")
                return 0
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._begun = True
            self._ready = memoryview(self._frame.decompress(data))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size
