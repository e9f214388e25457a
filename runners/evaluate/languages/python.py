"""Python and MBPP: the program is executed in a fresh interpreter behind a guard.

It passes when it runs to its end without any exception, SystemExit included. The guard takes away
what the reference takes away, because that decides verdicts; the sandbox is what protects.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy

from runners.evaluate.languages.base import (
    Bench,
    FastWay,
    Judgement,
    Source,
    Toolchain,
    reference_text,
    settle,
)
from runners.evaluate.languages.probe import shown_at
from runners.evaluate.languages.proof import NOT_ENDED, digest_of, new_secret
from runners.evaluate.languages.python_fast import HARNESS, PythonFast
from runners.evaluate.sandbox.base import Mount, Outcome, Program
from runners.evaluate.verdicts import Status

_MODULES = (
    *("math", "re", "sys", "copy", "datetime", "itertools", "collections", "heapq"),
    *("statistics", "functools", "hashlib", "numpy", "numpy as np", "string"),
)
IMPORTS = (
    "".join(f"import {name}\n" for name in _MODULES)
    + "from typing import *\nfrom collections import *\n"
)
_SITE = "/opt/site"


class Python:
    """The interpreter that runs this program, with its numpy and nothing else of its packages.

    (``-S`` leaves out the site folders: what the person installed there decides no verdict.)
    """

    batch = 1
    name = "python"

    def assemble(self, row: Mapping[str, Any], candidate: str, family: str) -> str:
        """Imports, the candidate and the tests; for MBPP the candidate and its asserts."""
        if family == "mbpp":
            return candidate + "\n" + reference_text(row, family)
        return (IMPORTS + candidate).strip() + "\n" + reference_text(row, family)

    def discover(self) -> Toolchain:
        """This interpreter (the real one, not the environment's link) and numpy beside it."""
        base = Path(sys.base_prefix)
        inside, mounts = shown_at(base, "/opt/python")
        program = f"{inside}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        package = Path(numpy.__file__).parent
        shown = [Mount(package, f"{_SITE}/numpy")]
        libraries = package.with_name("numpy.libs")
        if libraries.is_dir():
            shown.append(Mount(libraries, f"{_SITE}/numpy.libs"))
        return Toolchain(
            "python",
            f"Python {sys.version.split()[0]}, numpy {numpy.__version__}",
            {"python": program},
            (*mounts, *shown),
            {
                "PYTHONPATH": _SITE,
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONHASHSEED": "0",
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
        )

    def prepare(self, bench: Bench, folder: Path) -> None:
        """Nothing to build."""

    def judge(self, source: Source, bench: Bench) -> Judgement:
        """One interpreter for one program."""
        limits = bench.timed(time_limit(source.family))
        secret = new_secret()
        outcome = bench.run(
            Program(
                argv=[bench.toolchain.programs["python"], "-s", "-S", "harness.py", "program.py"],
                files={
                    "harness.py": HARNESS.read_bytes(),
                    "program.py": source.text.encode("utf-8", "surrogatepass"),
                },
                stdin=secret,
            ),
            limits,
        )
        judgement = settle(outcome, limits, failure(outcome.stdout))
        return judged(outcome, judgement, digest_of(secret))

    def fast(self, bench: Bench) -> FastWay | None:
        """A fork server with numpy loaded, each program in namespaces of its own."""
        return PythonFast(bench, time_limit)


def time_limit(family: str) -> float:
    """CPU seconds of a program."""
    return 3.0 if family == "mbpp" else 10.0


def judged(outcome: Outcome, judgement: Judgement, proof: bytes) -> Judgement:
    """Status 0 is not enough: the harness gives a proof after the program's last line."""
    if judgement.passed and outcome.stdout != proof:
        return replace(judgement, status="runtime_error", detail=NOT_ENDED)
    return judgement


def failure(problem: bytes) -> Status:
    # SyntaxError comes with the line above it; the kind is on the last line.
    last = problem.strip().rsplit(b"\n", 1)[-1]
    if last.startswith((b"SyntaxError", b"IndentationError", b"TabError")):
        return "compile_error"
    return "wrong" if last.startswith(b"AssertionError") else "runtime_error"
