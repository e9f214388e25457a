"""What a sandbox is asked to run and what it reports; every provider speaks these types.

A program gets a fresh, empty ``/work`` that holds only its files and vanishes with it. Nothing it
writes reaches this machine, except its two output streams, cut at a limit. A stage that makes
something for a later one (a compiler) names it in ``collect``: the file then *is* the standard
output, so there is no shared folder that a program could fill or plant links in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from runners.errors import MftError

WORK = "/work"
"""The program's working folder inside the sandbox; writable, bounded, private."""

KEPT_OUTPUT = 4096
"""Bytes of each stream that a verdict can quote."""

KEPT_END = 64 << 10
"""Bytes of the end of standard output that are kept, where a proof of the end is looked for."""

MIB = 1 << 20

Ended = Literal["exited", "timeout", "output_limit", "memory_limit"]


class SandboxError(MftError):
    """The sandbox itself failed. It is never the program's fault."""


@dataclass(frozen=True)
class Limits:
    """What a program may use. Seconds and bytes.

    ``cpu_seconds`` is the limit that decides verdicts (SIGXCPU, then SIGKILL, for each process);
    ``wall_seconds`` only ends what sleeps: it is generous, and what computes gets more of it where
    the machine has little time for it, so that a busy machine changes nothing.
    All processes together may use ``tree_cpu_seconds``.
    ``memory_bytes`` counts all processes and their files in ``/work``; ``processes`` counts
    threads too; a program that writes more than ``output_bytes`` to its streams is ended.
    """

    cpu_seconds: float
    wall_seconds: float
    memory_bytes: int = 4096 * MIB
    processes: int = 256
    disk_bytes: int = 256 * MIB
    output_bytes: int = 64 * MIB
    open_files: int = 1024

    @property
    def tree_cpu_seconds(self) -> float:
        """CPU seconds of all processes together: a compiler and the program it made, say."""
        return 2 * self.cpu_seconds


@dataclass(frozen=True)
class Mount:
    """A folder or file of this machine, shown read-only at ``target`` inside."""

    source: Path
    target: str


@dataclass(frozen=True)
class Program:
    """One thing to run. ``files`` are paths below ``/work``; ``argv`` is looked up inside."""

    argv: Sequence[str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    collect: str | None = None
    keep_stdout: int = KEPT_OUTPUT
    nested: bool = False
    """True for a server that makes a smaller sandbox inside for each question. It is given the
    filter to put on what runs there, as the file ``filter.bpf``."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended, as seen from outside.

    ``exit_code`` is the status, or minus the signal that killed it; None when it was ended from
    outside. ``stdout_bytes`` and ``stderr_bytes`` count everything, also what was not kept.
    ``stdout_end`` is the end of standard output, where only a beginning was asked for.
    """

    ended: Ended
    exit_code: int | None
    stdout: bytes
    stderr: bytes
    stdout_bytes: int
    stderr_bytes: int
    cpu_seconds: float
    wall_seconds: float
    memory_bytes: int
    stdout_end: bytes = b""

    @property
    def ok(self) -> bool:
        """It ended by itself with status 0."""
        return self.ended == "exited" and self.exit_code == 0


class Server(Protocol):
    """A long-lived process of ours inside a sandbox, spoken to in frames."""

    def ask(
        self, request: bytes, *, wall_seconds: float, cpu_seconds: float | None = None
    ) -> bytes:
        """Send one frame and return the answer.

        Raises ``SandboxError`` when it died, is late, or spent more CPU time on the answer.
        """
        ...

    def close(self) -> None:
        """End it and everything it started."""
        ...


class Sandbox(Protocol):
    """A provider. One instance serves one worker at a time (it may own a cgroup)."""

    name: str

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Run to the end. Raises ``SandboxError`` when the sandbox could not be made."""
        ...

    def serve(self, program: Program, limits: Limits) -> Server:
        """Start a long-lived server."""
        ...

    def close(self) -> None:
        """Give back what the provider holds on this machine."""
        ...
