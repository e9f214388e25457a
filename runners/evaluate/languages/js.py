"""JavaScript: one node run. It passes when nothing is printed; the exit status does not count.

Unless it tells of a signal: what was killed, by itself say, has not come to its end.
"""

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
    out_of_time,
    reference_text,
)
from runners.evaluate.languages.probe import first_line, in_system, shown_at
from runners.evaluate.languages.proof import NOT_ENDED, new_word
from runners.evaluate.sandbox.base import Limits, Mount, Outcome, Program
from runners.evaluate.toolfolders import installed
from runners.evaluate.verdicts import Status, quoted

_RUN_SECONDS = 10.0
_SIGNALS = 128  # a shell's and bubblewrap's way to tell of a signal: 128 and its number
_INSTALL_PACKAGE = "python -m runners.evaluate.install"
_INSTALL = f"apt-get install -y nodejs npm && {_INSTALL_PACKAGE}"
_MODULES = "/opt/npm/node_modules"
PACKAGE = "js-md5@0.8.3"
"""The npm package that one row requires, as it is pinned."""


class JavaScript:
    """node, with the package js-md5 where one row looks for it."""

    batch = 1
    name = "js"

    def assemble(self, row: Mapping[str, Any], candidate: str, family: str) -> str:
        """The candidate and the tests."""
        return candidate + "\n" + reference_text(row, family)

    def discover(self) -> Toolchain | Missing:
        """node, and js-md5 where the installer or npm puts it."""
        node = shutil.which("node") or shutil.which("nodejs")
        if node is None:
            return Missing("js", "node is not installed", _INSTALL)
        program, mounts = _node_inside(Path(node).resolve())
        modules = installed("npm/node_modules") or Path("/usr/share/nodejs")
        package = modules / "js-md5"
        if not package.is_dir():
            return Missing("js", "the npm package js-md5 is not installed", _INSTALL_PACKAGE)
        version = f"node {first_line(node, '--version')}"
        return Toolchain(
            "js",
            version,
            {"node": program},
            (*mounts, Mount(package.resolve(), f"{_MODULES}/js-md5")),
            {"NODE_PATH": _MODULES},
        )

    def prepare(self, bench: Bench, folder: Path) -> None:
        """Nothing to build."""

    def judge(self, source: Source, bench: Bench) -> Judgement:
        """Run it by itself."""
        limits = bench.timed(_RUN_SECONDS)
        word = new_word() if bench.strict else None
        end = "" if word is None else f'\n;require("fs").writeSync(1, "{word}");\n'
        outcome = bench.run(
            Program(
                argv=[bench.toolchain.programs["node"], "test.js"],
                files={"test.js": (source.text + end).encode("utf-8", "surrogatepass")},
            ),
            limits,
        )
        status = _status(outcome, limits, word)
        said = quoted(outcome.stderr, outcome.stdout)
        if status == "runtime_error" and not said:
            number = _signal_of(outcome)
            said = NOT_ENDED if number is None else f"killed by signal {number}"
        return Judgement(
            status,
            "" if status == "passed" else said or status,
            outcome.cpu_seconds,
            outcome.memory_bytes,
        )

    def fast(self, bench: Bench) -> FastWay | None:
        """None: the plain way is one short process already."""
        return None


def _status(outcome: Outcome, limits: Limits, word: str | None) -> Status:
    if outcome.ended != "exited":
        return outcome.ended
    if out_of_time(outcome, limits):
        return "timeout"
    if _signal_of(outcome) is not None:
        return "runtime_error"
    # Nothing at all may be printed; with a proof of the end, nothing but that.
    if outcome.stdout_end == (word or "").encode() and outcome.stderr_bytes == 0:
        return "passed"
    if b"SyntaxError" in outcome.stderr:
        return "compile_error"
    return "wrong" if b"Assertion failed" in outcome.stderr else "runtime_error"


def _signal_of(outcome: Outcome) -> int | None:
    """The signal that ended the program; None when it ended by itself."""
    code = outcome.exit_code
    if code is None or 0 <= code <= _SIGNALS:
        return None
    return -code if code < 0 else code - _SIGNALS


def _node_inside(node: Path) -> tuple[str, tuple[Mount, ...]]:
    """Path of node in the sandbox; one installed elsewhere (nvm, say) is shown as a folder."""
    if in_system(node):
        return str(node), ()
    inside, mounts = shown_at(node.parent.parent, "/opt/node")
    return f"{inside}/{node.parent.name}/{node.name}", mounts
