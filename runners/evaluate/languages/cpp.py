"""C++: one g++ run and one run of what it made; the fast way precompiles the prelude."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runners.evaluate.languages.base import (
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
from runners.evaluate.languages.probe import first_line, is_file
from runners.evaluate.sandbox.base import Program

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
_BINARY_BYTES = 64 << 20
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
        return Toolchain("cpp", first_line(compiler, "--version"), {"compiler": compiler})

    def prepare(self, bench: Bench, folder: Path) -> None:
        """Nothing yet."""

    def judge(self, source: Source, bench: Bench) -> Judgement:
        """Compile, then run in a sandbox of its own."""
        limits = bench.timed(_COMPILE_SECONDS)
        compiler = bench.toolchain.programs["compiler"]
        built = bench.run(
            Program(
                argv=[compiler, *_FLAGS, "test.cpp", *_LIBRARIES],
                files={"test.cpp": source.text.encode("utf-8", "surrogatepass")},
                collect="a.out",
                keep_stdout=_BINARY_BYTES,
            ),
            limits,
        )
        compiled = settle(built, limits, "compile_error")
        if not compiled.passed:
            return compiled
        return after(compiled, self.run(built.stdout, bench))

    def run(self, binary: bytes, bench: Bench) -> Judgement:
        """Run a compiled program."""
        limits = bench.timed(_RUN_SECONDS)
        outcome = bench.run(Program(argv=["./a.out"], files={"a.out": binary}), limits)
        return settle(outcome, limits, wrong_or_crashed(outcome.stderr))

    def fast(self, bench: Bench) -> FastWay | None:
        """None yet."""
        return None


def wrong_or_crashed(stderr: bytes) -> Any:
    """``wrong`` for a failed assertion, else ``runtime_error``."""
    return "wrong" if re.search(rb"Assertion `.*' failed", stderr) else "runtime_error"
