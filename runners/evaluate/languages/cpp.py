"""C++: one g++ run and one run of what it made; the fast way precompiles the prelude."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runners.evaluate.languages.base import (
    PARTS_BYTES,
    Bench,
    FastWay,
    Judgement,
    Missing,
    Source,
    Toolchain,
    after,
    reference_text,
    settle,
)
from runners.evaluate.languages.parts import compile_and_run, refused, unpack_into
from runners.evaluate.languages.probe import first_line, is_file
from runners.evaluate.languages.proof import COMPILE_PROOF, WRAP_MAIN, new_word, proof_c, proven
from runners.evaluate.sandbox.base import Mount, Program
from runners.evaluate.verdicts import Status

_INCLUDES = (
    *("stdlib.h", "algorithm", "cmath", "math.h", "numeric", "stdio.h", "vector", "set", "map"),
    *("queue", "stack", "list", "deque", "boost/any.hpp", "string", "climits", "cstring"),
    *("iostream", "sstream", "fstream"),
)
PRELUDE = "\n".join(["using namespace std;", *(f"#include<{name}>" for name in _INCLUDES)]) + "\n"
_FLAGS = ("-std=c++11",)
_LIBRARIES = ("-lcrypto", "-lssl")
_COMPILE_SECONDS = 60.0
_RUN_SECONDS = 60.0
_PARTS = "/opt/cpp-parts"
_HEADER = "prelude.h"
_PRECOMPILE = (
    f'"$1" {" ".join(_FLAGS)} -x c++-header {_HEADER} -o {_HEADER}.gch && '
    f"tar cf parts.tar {_HEADER} {_HEADER}.gch"
)
_INSTALL = "apt-get install -y g++ libboost-dev libssl-dev"


class Cpp:
    """g++ with boost's headers and OpenSSL."""

    batch = 1
    name = "cpp"

    def assemble(self, row: Mapping[str, Any], candidate: str, family: str) -> str:
        """Prelude, the candidate up to its own ``main``, the tests."""
        return PRELUDE + candidate.split("int main")[0] + "\n" + reference_text(row, family)

    def discover(self) -> Toolchain | Missing:
        """g++ and the two header sets that the rows use."""
        compiler = shutil.which("g++")
        if compiler is None:
            return Missing("cpp", "g++ is not installed", _INSTALL)
        for header, package in (("boost/any.hpp", "boost"), ("openssl/md5.h", "OpenSSL")):
            if not is_file(Path("/usr/include") / header, Path("/usr/local/include") / header):
                return Missing("cpp", f"the headers of {package} are not installed", _INSTALL)
        programs = {"compiler": compiler}
        if shutil.which("ld.gold"):
            programs["linker"] = "gold"
        return Toolchain("cpp", first_line(compiler, "--version"), programs)

    def prepare(self, bench: Bench, folder: Path) -> None:
        """The prelude, precompiled with the very flags that programs are compiled with."""
        outcome = bench.run(
            Program(
                argv=["/bin/sh", "-c", _PRECOMPILE, "sh", bench.toolchain.programs["compiler"]],
                files={_HEADER: PRELUDE.encode()},
                collect="parts.tar",
                keep_stdout=PARTS_BYTES,
            ),
            bench.building(300.0),
        )
        unpack_into(folder, outcome, "the precompiled C++ prelude")

    def judge(self, source: Source, bench: Bench) -> Judgement:
        """Compile, then run in a sandbox of its own."""
        limits = bench.timed(_COMPILE_SECONDS)
        compiler = bench.toolchain.programs["compiler"]
        word = new_word() if bench.strict else None
        # Its size is bounded as any file's; what else it says comes to little beside that.
        largest = limits.disk_bytes + limits.output_bytes
        built = bench.run(
            Program(
                argv=linking_proof([compiler, *_FLAGS, "test.cpp", *_LIBRARIES], word),
                files={
                    "test.cpp": source.text.encode("utf-8", "surrogatepass"),
                    **proof_files(word),
                },
                collect="a.out",
                keep_stdout=largest,
            ),
            replace(limits, output_bytes=largest),
        )
        compiled = settle(built, limits, "compile_error")
        if not compiled.passed:
            return compiled
        return after(compiled, self._run(source, built.stdout, bench, word))

    def _run(self, source: Source, binary: bytes, bench: Bench, word: str | None) -> Judgement:
        limits = bench.timed(_RUN_SECONDS)
        # The reference runs it where it compiled it.
        files = {"test.cpp": source.text.encode("utf-8", "surrogatepass"), "a.out": binary}
        outcome = bench.run(Program(argv=["./a.out"], files=files), limits)
        return proven(settle(outcome, limits, wrong_or_crashed(outcome.stderr)), outcome, word)

    def fast(self, bench: Bench) -> FastWay | None:
        """The precompiled prelude, and one sandbox for compiling and running."""
        return CppFast(bench)


class CppFast:
    """Compiles against the precompiled prelude and runs at once, in one sandbox.

    The compiler reads the same text with the same flags, and finds the headers of its first lines
    included already; a faster linker is used where there is one. The program's own limits apply
    from its first instruction, because they count by process.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        linker = bench.toolchain.programs.get("linker")
        self._linking = [f"-fuse-ld={linker}"] if linker else []

    def judge(self, sources: Sequence[Source]) -> list[Judgement | None]:
        """One sandbox for each program."""
        return [self._judge(source) for source in sources]

    def close(self) -> None:
        """Nothing is held."""

    def _judge(self, source: Source) -> Judgement | None:
        if not source.text.startswith(PRELUDE):
            return None
        compiler = self._bench.toolchain.programs["compiler"]
        include = ["-include", f"{_PARTS}/{_HEADER}", "-pipe", *self._linking]
        limits = self._bench.timed(_COMPILE_SECONDS)
        word, no = new_word() if self._bench.strict else None, new_word()
        command = [compiler, *_FLAGS, *include, "test.cpp", *_LIBRARIES]
        outcome = self._bench.run(
            Program(
                argv=compile_and_run("./a.out", linking_proof(command, word), no),
                files={
                    "test.cpp": source.text.encode("utf-8", "surrogatepass"),
                    **proof_files(word),
                },
                mounts=(Mount(self._bench.prepared, _PARTS),),
            ),
            limits,
        )
        if refused(outcome, no):
            return settle(replace(outcome, stdout=b""), limits, "compile_error")
        return proven(settle(outcome, limits, wrong_or_crashed(outcome.stderr)), outcome, word)


def linking_proof(command: list[str], word: str | None) -> list[str]:
    """The compiler's command, which links in the proof of the end where a word is asked for."""
    if word is None:
        return command
    proof = ["/bin/sh", "-c", COMPILE_PROOF, "sh", command[0]]
    return [*proof, *command, "proof.o", WRAP_MAIN]


def proof_files(word: str | None) -> dict[str, bytes]:
    """The file that ``linking_proof`` compiles."""
    return {} if word is None else {"proof.c": proof_c(word)}


def wrong_or_crashed(stderr: bytes) -> Status:
    """``wrong`` for a failed assertion, else ``runtime_error``."""
    return "wrong" if re.search(rb"Assertion `.*' failed", stderr) else "runtime_error"
