"""What was found out about one generation, and the file that keeps it.

``verdicts_{task}_{model}.jsonl`` is appended as verdicts come, one JSON object a line, so that a
stopped evaluation goes on where it was. A line without its newline is end of file.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

Status = Literal[
    "passed",
    "wrong",
    "compile_error",
    "runtime_error",
    "timeout",
    "output_limit",
    "memory_limit",
    "sandbox_error",
]

DETAIL_LIMIT = 4096
"""Most bytes of a program's own words that a verdict quotes."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One generation's verdict.

    ``index`` is the question's place in its task, ``sample`` the generation's place among the
    question's. ``seconds`` is CPU time of all stages, ``memory`` the peak in bytes. ``generation``
    is a digest of the text that was judged: a changed text is judged again.
    """

    index: int
    task_id: str
    passed: bool
    status: Status
    seconds: float
    detail: str = ""
    memory: int = 0
    sample: int = 0
    generation: str = ""


_decoder = msgspec.json.Decoder(Verdict)


def read_verdicts(path: Path) -> Iterator[Verdict]:
    """Yield the whole lines of a verdict file; nothing when there is no file.

    A line that is no verdict (a damaged disk, a hand edit) is passed over: its question is then
    simply judged again.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                yield _decoder.decode(line)
            except msgspec.DecodeError:
                continue


class VerdictFile:
    """Appends verdicts; each is one ``write``, so a kill tears at most the last line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._fd).st_size
        start = max(0, size - 64 * 1024)
        tail = os.pread(self._fd, size - start, start)
        os.ftruncate(self._fd, size - len(tail) + tail.rfind(b"\n") + 1)

    def append(self, verdict: Verdict) -> None:
        """Write one verdict. Raises ``OSError`` on a full disk, leaving no torn line behind."""
        line = msgspec.json.encode(verdict) + b"\n"
        before = os.fstat(self._fd).st_size
        if os.write(self._fd, line) != len(line):
            os.ftruncate(self._fd, before)
            raise OSError(28, "No space left on device", str(self.path))

    def close(self) -> None:
        """Flush to disk and close."""
        os.fsync(self._fd)
        os.close(self._fd)


def rewrite_verdicts(path: Path, verdicts: list[Verdict]) -> None:
    """Replace the file by these verdicts, in order, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        for verdict in verdicts:
            file.write(msgspec.json.encode(verdict) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


def quoted(*streams: bytes, limit: int = DETAIL_LIMIT) -> str:
    """The first bytes of a program's streams as text a person can read, joined and cut."""
    text = "\n".join(part for s in streams if (part := s.decode("utf-8", "replace").strip()))
    cut = text.encode("utf-8")[:limit].decode("utf-8", "ignore")
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in cut
    )
