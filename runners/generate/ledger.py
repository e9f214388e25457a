"""The completions on disk: what has been answered, and the files that are made of it.

Each completion is one line, appended with one write as soon as it is made, so a job that is killed
loses at most the rows it was working on. Ranks append to the same files. What is pending is always
worked out from the files, so no question is answered twice or never, however often a job stops.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from runners.generate.engine import Completion

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Completion)

Key = tuple[str, int, int]


def completions_path(folder: Path, task: str, model_name: str) -> Path:
    """Where a task's completions are kept in a generations folder."""
    return folder / f"completions_{task}_{model_name}.jsonl"


def generations_path(folder: Path, task: str, model_name: str) -> Path:
    """Where a task's generations are written once all are there."""
    return folder / f"generations_{task}_{model_name}.json"


class Ledger:
    """The completions of some tasks in a generations folder.

    ``refresh`` reads what has been appended since, by any rank. A line that is torn or damaged is
    passed over: its question is simply answered again.
    """

    def __init__(self, folder: Path, model_name: str, tasks: Collection[str]) -> None:
        self._paths = {task: completions_path(folder, task, model_name) for task in tasks}
        self._offsets = dict.fromkeys(tasks, 0)
        self._files: dict[str, int] = {}
        self.done: dict[Key, Completion] = {}
        self.tokens = 0

    def repair(self) -> None:
        """Cut torn last lines, which a killed job leaves; only while nobody else writes."""
        for path in self._paths.values():
            if not path.exists():
                continue
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole != len(data):
                os.truncate(path, whole)

    def refresh(self) -> list[Completion]:
        """Take in new lines; returns the completions that were not known before."""
        return [new for task in self._paths for new in self._read(task) if self._add(new)]

    def _read(self, task: str) -> Iterator[Completion]:
        path = self._paths[task]
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._offsets[task])
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offsets[task] += len(line)
                try:
                    completion = _decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                if completion.task == task:
                    yield completion

    def _add(self, completion: Completion) -> bool:
        if completion.key in self.done:
            return False
        self.done[completion.key] = completion
        self.tokens += completion.tokens
        return True

    def append(self, completion: Completion) -> None:
        """Write a completion down. Raises ``OSError`` when the disk does not take it."""
        file = self._files.get(completion.task)
        if file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            file = os.open(self._paths[completion.task], flags, 0o644)
            self._files[completion.task] = file
        line = _encoder.encode(completion) + b"\n"
        written = os.write(file, line)
        if written != len(line):
            # A newline ends the torn line, so that the next completion is not lost with it.
            os.write(file, b"\n")
            raise OSError(28, "No space left on device")

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is either whole or not there, on disk before it takes its name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
