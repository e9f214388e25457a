"""What the six languages have in common: toolchains, judgements, and the two ways to get one.

A language turns a stored generation into a program (``assemble``, the competition's
rules) and a program into a judgement. The **plain way** does what the reference does, question by
question. A **fast way** keeps compilers warm or shares work between questions; it may only answer
when it is sure that the plain way would say the same, and returns None when it is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from runners.evaluate.sandbox.base import Limits, Mount, Outcome, Program, Sandbox
from runners.evaluate.verdicts import Status, quoted

PARTS_BYTES = 1 << 30
"""The most that parts built once for a toolchain may take."""


@dataclass(frozen=True)
class Toolchain:
    """A language's programs as found on this machine.

    ``programs`` maps a role (``compiler``) to the path inside the sandbox; ``mounts`` show what
    lies outside the system folders. ``version`` is recorded with the scores.
    """

    language: str
    version: str
    programs: Mapping[str, str]
    mounts: tuple[Mount, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Missing:
    """A language that cannot be scored here: what is not there, and the line that installs it."""

    language: str
    what: str
    install: str


@dataclass(frozen=True)
class Source:
    """A program ready to be judged: its text, the row it answers, and its task's family."""

    text: str
    row: Mapping[str, Any]
    family: str


@dataclass(frozen=True)
class Judgement:
    """What a program did. ``seconds`` of CPU over all stages, ``memory`` peak bytes."""

    status: Status
    detail: str
    seconds: float
    memory: int

    @property
    def passed(self) -> bool:
        """True when the tests passed."""
        return self.status == "passed"


@dataclass(frozen=True)
class Bench:
    """What a judge works with. ``limits`` holds memory, processes and disk; languages add time.

    ``prepared`` is the folder of parts built once for this toolchain (``toolcache``). ``slack``
    multiplies all times: 1 normally, less in tests that need a time-out soon.
    """

    sandbox: Sandbox
    toolchain: Toolchain
    limits: Limits
    prepared: Path
    strict: bool = False
    slack: float = 1.0

    def timed(self, cpu_seconds: float) -> Limits:
        """The limits with this much CPU time, and wall time that only ends what sleeps."""
        return Limits(
            cpu_seconds=max(1.0, cpu_seconds * self.slack),
            wall_seconds=(10.0 + 4.0 * cpu_seconds) * self.slack,
            memory_bytes=self.limits.memory_bytes,
            processes=self.limits.processes,
            disk_bytes=self.limits.disk_bytes,
            output_bytes=self.limits.output_bytes,
            open_files=self.limits.open_files,
        )

    def building(self, cpu_seconds: float) -> Limits:
        """Limits for parts of our own, which are large and come out by standard output."""
        return Limits(
            cpu_seconds=cpu_seconds,
            wall_seconds=10.0 + 4.0 * cpu_seconds,
            memory_bytes=max(self.limits.memory_bytes, 4 << 30),
            processes=max(self.limits.processes, 512),
            disk_bytes=1 << 30,
            output_bytes=PARTS_BYTES,
        )

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Run in the sandbox with the toolchain in reach."""
        return self.sandbox.run(
            Program(
                argv=program.argv,
                files=program.files,
                mounts=(*self.toolchain.mounts, *program.mounts),
                environment={**self.toolchain.environment, **program.environment},
                stdin=program.stdin,
                collect=program.collect,
                keep_stdout=program.keep_stdout,
            ),
            limits,
        )


class FastWay(Protocol):
    """One worker's fast way through one language; holds servers and closes them."""

    def judge(self, sources: Sequence[Source]) -> list[Judgement | None]:
        """For each program its judgement, or None when only the plain way can tell."""
        ...

    def close(self) -> None:
        """End what it started."""
        ...


class Language(Protocol):
    """One of the six languages.

    ``batch`` is how many programs its fast way likes to be given at once.
    """

    name: str
    batch: int

    def assemble(self, row: Mapping[str, Any], candidate: str, family: str) -> str:
        """The whole program text for a stored generation."""
        ...

    def discover(self) -> Toolchain | Missing:
        """Find the toolchain on this machine, quickly."""
        ...

    def prepare(self, bench: Bench, folder: Path) -> None:
        """Build into ``folder`` what can be built once for a toolchain."""
        ...

    def judge(self, source: Source, bench: Bench) -> Judgement:
        """Compile and run one program by itself, as the reference does."""
        ...

    def fast(self, bench: Bench) -> FastWay | None:
        """A fast way for one worker, or None where there is none."""
        ...


def reference_text(row: Mapping[str, Any], family: str) -> str:
    """What stands behind the candidate: the row's tests."""
    if family == "mbpp":
        return "\n".join(row["test_list"])
    return "\n" + str(row["test"])


_SIGXCPU = 24
# The kernel's limit counts by clock ticks, the accounting by nanoseconds: they differ by a tenth.
_NEARLY = 0.85


def out_of_time(outcome: Outcome, limits: Limits) -> bool:
    """True when a program that ended badly did so because its CPU time was used up.

    SIGXCPU says so outright. A parent that reports its child's death (go, cargo), or a second
    signal, only leaves the time that was spent.
    """
    if outcome.exit_code in {-_SIGXCPU, 128 + _SIGXCPU}:
        return True
    return outcome.exit_code != 0 and outcome.cpu_seconds >= _NEARLY * limits.cpu_seconds


def settle(outcome: Outcome, limits: Limits, failed: Status) -> Judgement:
    """Judge a stage that has to end with status 0; ``failed`` names another end."""
    status: Status
    if outcome.ended != "exited":
        status = outcome.ended
    elif outcome.exit_code == 0:
        status = "passed"
    elif out_of_time(outcome, limits):
        status = "timeout"
    else:
        status = failed
    said = quoted(outcome.stderr, outcome.stdout)
    if status not in {"passed", failed}:
        said = f"{broken(status, limits)}\n{said}".strip()
    elif status == failed and not said:
        said = f"ended with status {outcome.exit_code}"
    return Judgement(
        status, "" if status == "passed" else said, outcome.cpu_seconds, outcome.memory_bytes
    )


def broken(status: Status, limits: Limits) -> str:
    """What a verdict says of the limit that ended a program."""
    return {
        "timeout": f"over {limits.cpu_seconds:g} s of CPU or {limits.wall_seconds:g} s in all",
        "output_limit": f"wrote more than {limits.output_bytes:,} bytes",
        "memory_limit": f"over {limits.memory_bytes:,} bytes or {limits.processes} processes",
    }[status]


def after(first: Judgement, second: Judgement) -> Judgement:
    """The second stage's judgement with the first one's cost added."""
    return Judgement(
        second.status,
        second.detail,
        first.seconds + second.seconds,
        max(first.memory, second.memory),
    )
