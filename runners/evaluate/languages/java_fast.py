"""The fast way through Java: one warm compiler a worker, then the same JVM run as the plain way.

Starting javac costs a second of CPU; a compiler that has warmed up answers in a few milliseconds.
The run is untouched, so only compiling could differ, and a compiler that fails in itself (an
overflowing stack, memory) is never believed.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from runners.evaluate.languages.base import Bench, Judgement, Source
from runners.evaluate.languages.proof import new_word
from runners.evaluate.sandbox.base import Limits, Mount, Program, SandboxError, Server
from runners.evaluate.verdicts import quoted

PARTS = "/opt/java-parts"
_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx768m")
_PATIENCE_SECONDS = 60.0
_DEATHS_THAT_MEAN_NEVER = 3
_SERVER_LIMITS = Limits(cpu_seconds=86400.0, wall_seconds=86400.0, processes=512)

RunClasses = Callable[[Mapping[str, bytes], Bench, str | None], Judgement]
WithProof = Callable[[str, str | None], str]


class JavaFast:
    """Keeps a compiler in a sandbox and restarts it when a program has broken it."""

    def __init__(self, bench: Bench, run: RunClasses, with_proof: WithProof) -> None:
        self._bench = bench
        self._run = run
        self._with_proof = with_proof
        self._server: Server | None = None
        self._deaths = 0
        self._answers = 0
        self._hopeless = False

    def judge(self, sources: Sequence[Source]) -> list[Judgement | None]:
        """Compile in the warm compiler, run each program in a sandbox of its own."""
        return [self._judge(source) for source in sources]

    def _give_up_on_server(self) -> None:
        """A program may break a server; a server that never answers is not worth starting."""
        self.close()
        self._deaths += 1
        self._hopeless = self._deaths >= _DEATHS_THAT_MEAN_NEVER and not self._answers

    def close(self) -> None:
        """End the compiler."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _judge(self, source: Source) -> Judgement | None:
        if self._hopeless:
            return None
        word = new_word() if self._bench.strict else None
        try:
            text = self._with_proof(source.text, word).encode("utf-8")
        except UnicodeEncodeError:
            return None
        try:
            answer = self._compiler().ask(text, wall_seconds=_PATIENCE_SECONDS)
        except SandboxError:
            self._give_up_on_server()
            return None
        if not answer or answer[0] not in {0, 1}:
            self.close()
            return None
        self._answers += 1
        fields = _fields(answer[1:])
        if answer[0] == 0:
            return Judgement("compile_error", quoted(*fields), 0.0, 0)
        names = [name.decode("utf-8") for name in fields[::2]]
        if len(set(names)) < len(names) or any("/" in name for name in names):
            return None
        return self._run(dict(zip(names, fields[1::2], strict=True)), self._bench, word)

    def _compiler(self) -> Server:
        if self._server is None:
            toolchain = self._bench.toolchain
            self._server = self._bench.sandbox.serve(
                Program(
                    argv=[toolchain.programs["java"], *_OPTIONS, "-cp", PARTS, "JavaServer"],
                    mounts=(*toolchain.mounts, Mount(self._bench.prepared, PARTS)),
                    environment=toolchain.environment,
                ),
                replace(_SERVER_LIMITS, memory_bytes=self._bench.limits.memory_bytes),
            )
        return self._server


def _fields(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found
