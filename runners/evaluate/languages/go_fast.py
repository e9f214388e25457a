"""The fast way through Go: many programs are vetted and linked together, and run one by one.

Most of ``go test`` is linking the same libraries again. A small Go program (``go_batch.go``) makes
one test binary out of those programs that cannot notice each other; every question then runs in a
sandbox of its own, with only its own tests selected. Whatever vet, the compiler or the batch
itself objects to is judged the plain way.
"""

import json
from collections.abc import Callable, Sequence

from runners.evaluate.languages.base import Bench, Judgement, Source, settle
from runners.evaluate.languages.proof import new_word, proven
from runners.evaluate.sandbox.base import Limits, Mount, Program
from runners.evaluate.verdicts import Status

PARTS = "/opt/go-parts"
VET_CHECKS = (
    *("-atomic", "-bool", "-buildtags", "-errorsas", "-ifaceassert", "-nilfunc", "-printf"),
    "-stringintconv",
)
"""What ``go test`` asks vet for."""
_BINARY_BYTES = 256 << 20
_BUILD = 'cp -r "$1/cache" gocache && shift && exec /opt/go-parts/batch "$@"'
# Whether these happened can depend on the binary: only the plain way may say so.
_UNSURE = (b"stack overflow", b"out of memory", b"goroutine stack exceeds", b"all goroutines are")


class GoFast:
    """Builds a batch, then runs its programs."""

    def __init__(self, bench: Bench, seconds: float, failure: Callable[[bytes], Status]) -> None:
        self._bench = bench
        self._seconds = seconds
        self._failure = failure

    def judge(self, sources: Sequence[Source]) -> list[Judgement | None]:
        """One build, one run for each program."""
        names = [f"q{number:04d}" for number in range(len(sources))]
        word = new_word() if self._bench.strict else None
        programs = dict(zip(names, sources, strict=True))
        built = self._build(programs, word) if len(sources) > 1 else None
        if built is None:
            return [None] * len(sources)
        taken, binary = built
        return [
            self._run(binary, name, word, tests=len(taken[name])) if name in taken else None
            for name in names
        ]

    def close(self) -> None:
        """Nothing is held."""

    def _build(
        self, sources: dict[str, Source], word: str | None
    ) -> tuple[dict[str, list[str]], bytes] | None:
        """The tests of each program in the batch, and the binary; None when it cannot be built."""
        go = self._bench.toolchain.programs["go"]
        gopath = self._bench.toolchain.environment["GOPATH"]
        outcome = self._bench.run(
            Program(
                argv=["/bin/sh", "-c", _BUILD, "sh", PARTS, go, word or "-", *VET_CHECKS],
                files={
                    f"in/{name}.go": source.text.encode("utf-8", "surrogatepass")
                    for name, source in sources.items()
                },
                mounts=(Mount(self._bench.prepared, PARTS),),
                environment={
                    "GOPATH": f"{gopath}:/work/gopath",
                    "GOCACHE": "/work/gocache",
                },
                collect="out",
                keep_stdout=_BINARY_BYTES,
            ),
            self._build_limits(len(sources)),
        )
        if not outcome.ok:
            return None
        report, _, binary = outcome.stdout.partition(b"\n")
        return json.loads(report), binary

    def _build_limits(self, programs: int) -> Limits:
        return Limits(
            cpu_seconds=self._seconds * programs,
            wall_seconds=60 + self._seconds * programs,
            memory_bytes=self._bench.limits.memory_bytes,
            processes=max(512, self._bench.limits.processes),
            disk_bytes=1 << 30,
            output_bytes=_BINARY_BYTES,
        )

    def _run(self, binary: bytes, name: str, word: str | None, *, tests: int) -> Judgement | None:
        limits = self._bench.timed(self._seconds)
        options = [f"-test.run=^Test_{name}_", "-test.paniconexit0"]
        options.append(f"-test.timeout={limits.wall_seconds:.0f}s")
        outcome = self._bench.run(
            Program(argv=["./all.test", *options], files={"all.test": binary}), limits
        )
        said = outcome.stdout + outcome.stderr
        judgement = settle(outcome, limits, self._failure(said))
        judgement = proven(judgement, outcome, word, times=tests)
        unsure = any(word in said for word in _UNSURE)
        if unsure or judgement.status not in {"passed", "wrong"}:
            return None
        return judgement
