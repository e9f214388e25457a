"""The fast way through Python: numpy is loaded once, and every program is a fork of that.

Forking costs a few milliseconds where a fresh interpreter with numpy costs two hundred. Each fork
gets namespaces, files and limits of its own (``python_forkserver``), so programs cannot meet.
"""

import json
import signal
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from runners.evaluate.languages.base import Bench, Judgement, Source, broken
from runners.evaluate.languages.proof import digest_of, new_secret
from runners.evaluate.sandbox.base import Limits, Program, SandboxError, Server
from runners.evaluate.verdicts import quoted

HARNESS = Path(__file__).parent / "python_harness.py"
_SERVER = Path(__file__).parent / "python_forkserver.py"
_DEATHS_THAT_MEAN_NEVER = 3
_SERVER_LIMITS = Limits(cpu_seconds=86400.0, wall_seconds=86400.0)

# Exceptions that come from the program's own logic, whatever process it runs in. Others (files,
# memory, recursion, a signal) depend on surroundings: only the plain way may judge those.
_CERTAIN = {
    "wrong": ("AssertionError",),
    "compile_error": ("SyntaxError", "IndentationError", "TabError"),
    "runtime_error": (
        *("NameError", "UnboundLocalError", "TypeError", "ValueError", "IndexError", "KeyError"),
        *("AttributeError", "ZeroDivisionError", "StopIteration", "SystemExit"),
    ),
}
_KINDS = {name: status for status, names in _CERTAIN.items() for name in names}


class PythonFast:
    """Keeps a fork server in a sandbox and restarts it when a program has broken it."""

    def __init__(self, bench: Bench, time_limit: Callable[[str], float]) -> None:
        self._bench = bench
        self._time_limit = time_limit
        self._server: Server | None = None
        self._deaths = 0
        self._answers = 0
        self._hopeless = False

    def judge(self, sources: Sequence[Source]) -> list[Judgement | None]:
        """One fork for each program."""
        return [self._judge(source) for source in sources]

    def _give_up_on_server(self) -> None:
        """A program may break a server; a server that never answers is not worth starting."""
        self.close()
        self._deaths += 1
        self._hopeless = self._deaths >= _DEATHS_THAT_MEAN_NEVER and not self._answers

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _judge(self, source: Source) -> Judgement | None:
        # A fork sees no /proc; a program that looks there must be given one.
        if self._hopeless or "/proc" in source.text or "/sys" in source.text:
            return None
        limits = self._bench.timed(self._time_limit(source.family))
        secret = new_secret()
        text = source.text.encode("utf-8", "surrogatepass")
        head = struct.pack(
            ">IdQI",
            round(limits.cpu_seconds),
            limits.wall_seconds,
            limits.disk_bytes,
            limits.processes,
        )
        try:
            answer = json.loads(
                self._fork_server().ask(
                    head + secret + text,
                    wall_seconds=limits.wall_seconds + 30,
                    cpu_seconds=limits.tree_cpu_seconds,
                )
            )
        except SandboxError:
            self._give_up_on_server()
            return None
        self._answers += 1
        if "unsupported" in answer:
            self._hopeless = True
            return None
        return _judged(answer, digest_of(secret), limits)

    def _fork_server(self) -> Server:
        if self._server is None:
            toolchain = self._bench.toolchain
            self._server = self._bench.sandbox.serve(
                Program(
                    argv=[toolchain.programs["python"], "-s", "-S", "forkserver.py"],
                    files={
                        "forkserver.py": _SERVER.read_bytes(),
                        "harness.py": HARNESS.read_bytes(),
                    },
                    mounts=toolchain.mounts,
                    environment=toolchain.environment,
                    nested=True,
                ),
                replace(
                    _SERVER_LIMITS,
                    memory_bytes=self._bench.limits.memory_bytes,
                    processes=self._bench.limits.processes,
                ),
            )
        return self._server


def _judged(answer: dict[str, object], proof: bytes, limits: Limits) -> Judgement | None:
    said = bytes.fromhex(str(answer["said"]))
    status, seconds, memory = (
        answer["status"],
        float(str(answer["cpu"])),
        int(str(answer["memory"])),
    )
    if status in {"timeout", -signal.SIGXCPU}:
        # No loss if the plain way would say otherwise: every time-out is run again, plainly.
        return Judgement("timeout", broken("timeout", limits), seconds, memory)
    if answer["spoke"] or seconds > limits.tree_cpu_seconds:
        return None
    if status == 0 and said == proof:
        return Judgement("passed", "", seconds, memory)
    kind = said.strip().rsplit(b"\n", 1)[-1].split(b":")[0].decode("ascii", "replace")
    if status == 1 and kind in _KINDS:
        return Judgement(_KINDS[kind], quoted(said), seconds, memory)  # type: ignore[arg-type]
    return None
