"""Rust: ``cargo check`` and ``cargo test`` offline, with rand 0.4's face on today's rand.

Rows call ``rng.gen_range(low, high)`` of rand 0.4, which no compiler of today builds any more, so
a small crate of ours gives that face to rand 0.8 (``rust_crates/``).
"""

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
from runners.evaluate.languages.probe import answer, shown_at
from runners.evaluate.languages.proof import COMPILE_PROOF, WRAP_MAIN, new_word, proof_c, proven
from runners.evaluate.sandbox.base import Mount, Program
from runners.evaluate.toolfolders import installed
from runners.evaluate.verdicts import Status

_CHECK_SECONDS = 300.0
_TEST_SECONDS = 30.0
_MAIN = "fn main()"
_MAIN_FILE = "src/main.rs"
_CRATES = "/opt/crates"
_PARTS = "/opt/rust-parts"
_LIBRARIES = "target/debug/deps"
_DEBIANS = Path("/usr/share/cargo/registry")
_OURS = Path(__file__).parent / "rust_crates"
_INSTALL = "apt-get install -y rustc cargo librust-rand-dev librust-regex-dev librust-md5-dev"

_NAMES = ("rand", "regex", "md5")

_CARGO_TOML = """[package]
name = "candidate"
version = "0.1.0"
edition = "2021"

[dependencies]
rand = { path = "rand" }
regex = { version = "1", default-features = false, features = ["std", "unicode"] }
md5 = "0.7"
"""
_CARGO_CONFIG = f"""[source.crates-io]
replace-with = "here"

[source.here]
directory = "{_CRATES}"

[net]
offline = true
"""
_ENVIRONMENT = {"CARGO_HOME": "/work/.cargo", "CARGO_TERM_COLOR": "never", "RUST_BACKTRACE": "0"}
_BUILD = (
    'PATH="$1:$PATH"; cargo check --offline && cargo test --offline --no-run && '
    "tar cf parts.tar Cargo.lock target"
)
_STEP = 'PATH="$1:$PATH"; cp -a "$2/target" target && exec cargo "$3" --offline'


class Rust:
    """rustc and cargo, with the three crates that the rows use."""

    batch = 1
    name = "rust"

    def assemble(self, row: Mapping[str, Any], candidate: str, family: str) -> str:
        """An empty main and the declaration's lines where missing, the candidate, the tests."""
        head = "" if _MAIN in candidate else f"{_MAIN}{{}}\n"
        for line in str(row["declaration"]).strip().split("\n"):
            bare = line.strip()
            if bare in candidate:
                continue
            if bare.startswith("fn") and bare.split("(")[0] in candidate:
                continue
            head += bare + "\n"
        pieces = candidate.split(_MAIN)
        body = _MAIN.join(pieces[:2])
        return head + body + "\n" + reference_text(row, family)

    def discover(self) -> Toolchain | Missing:
        """rustc's own folder (rustup hides it behind a proxy), cargo, and the crates."""
        if shutil.which("rustc") is None or shutil.which("cargo") is None:
            return Missing("rust", "rustc and cargo are not installed", _INSTALL)
        sysroot = answer("rustc", "--print", "sysroot")
        if sysroot is None:
            return Missing("rust", "rustc does not run (rustup without a toolchain?)", _INSTALL)
        crates = next((p for p in _registries() if next(p.glob("rand-0.8*"), None)), None)
        if crates is None:
            return Missing("rust", "the crates rand, regex and md5 are not installed", _INSTALL)
        folder = Path(sysroot)
        if not (folder / "bin" / "cargo").exists():
            cargo = Path(shutil.which("cargo") or "cargo").resolve()
            folder = cargo.parent.parent
        inside, mounts = shown_at(folder, "/opt/rust")
        return Toolchain(
            "rust",
            answer("rustc", "--version") or "",
            {"bin": f"{inside}/bin", "rustc": f"{inside}/bin/rustc"},
            (*mounts, Mount(crates, _CRATES)),
            _ENVIRONMENT,
        )

    def prepare(self, bench: Bench, folder: Path) -> None:
        """Cargo's target folder with the crates checked and built."""
        limits = bench.building(900.0)
        outcome = bench.run(
            Program(
                argv=["/bin/sh", "-c", _BUILD, "sh", bench.toolchain.programs["bin"]],
                files={**_project("fn main() {}\n"), **_crate_files()},
                collect="parts.tar",
                keep_stdout=PARTS_BYTES,
            ),
            limits,
        )
        unpack_into(folder, outcome, "the Rust crates")

    def judge(self, source: Source, bench: Bench) -> Judgement:
        """``cargo check``, then ``cargo test``."""
        checked = self._step("check", _CHECK_SECONDS, source, bench)
        if not checked.passed:
            return checked
        tested = self._step("test", _TEST_SECONDS, source, bench)
        if tested.passed and bench.strict:
            # cargo cannot link one more object in without building the crates anew; rustc can.
            tested = after(tested, test_with_rustc(source, bench, libraries(bench)))
        return after(checked, tested)

    def _step(self, verb: str, seconds: float, source: Source, bench: Bench) -> Judgement:
        limits = bench.timed(seconds)
        lock = (bench.prepared / "Cargo.lock").read_bytes()
        files = {**_project(source.text), **_crate_files(), "Cargo.lock": lock}
        outcome = bench.run(
            Program(
                argv=["/bin/sh", "-c", _STEP, "sh", bench.toolchain.programs["bin"], _PARTS, verb],
                files=files,
                mounts=(Mount(bench.prepared, _PARTS),),
            ),
            limits,
        )
        return settle(outcome, limits, failure(outcome.stdout + outcome.stderr))

    def fast(self, bench: Bench) -> FastWay | None:
        """rustc against the built crates, without cargo; None if they cannot be told apart."""
        crates = libraries(bench)
        return RustFast(bench, crates) if len(crates) == len(_NAMES) else None


class RustFast:
    """``rustc --test`` with the flags of cargo's test profile, and the run, in one sandbox.

    ``cargo check`` compiles the same text without its tests. That could only fail where the test
    build does not if code outside the tests looks at the difference, and cargo itself can only be
    missed by code that looks at the environment or at files. Such text goes the plain way.
    """

    def __init__(self, bench: Bench, crates: Mapping[str, str]) -> None:
        self._bench = bench
        self._crates = crates

    def judge(self, sources: Sequence[Source]) -> list[Judgement | None]:
        """One sandbox for each program."""
        return [self._judge(source) for source in sources]

    def close(self) -> None:
        """Nothing is held."""

    def _judge(self, source: Source) -> Judgement | None:
        if not cargo_is_needless(source):
            return None
        return test_with_rustc(source, self._bench, self._crates)


def test_with_rustc(source: Source, bench: Bench, crates: Mapping[str, str]) -> Judgement:
    """Compile the test binary with rustc alone and run it at once, in one sandbox."""
    limits = bench.timed(_TEST_SECONDS)
    word, no = new_word() if bench.strict else None, new_word()
    command = [
        bench.toolchain.programs["rustc"],
        *("--edition=2021", "--crate-name=candidate", "--test", _MAIN_FILE),
        *("-o", "candidate", "-L", f"dependency={_PARTS}/{_LIBRARIES}"),
        *("-Cdebuginfo=0", "-Cprefer-dynamic", "-Crpath"),
        *(f"--extern={name}={path}" for name, path in crates.items()),
    ]
    files = {_MAIN_FILE: source.text.encode("utf-8", "surrogatepass")}
    if word is not None:
        files["proof.c"] = proof_c(word)
        linked = [f"-Clink-arg={argument}" for argument in ("proof.o", WRAP_MAIN)]
        command = ["/bin/sh", "-c", COMPILE_PROOF, "sh", "cc", *command, *linked]
    outcome = bench.run(
        Program(
            argv=compile_and_run("./candidate", command, no),
            files=files,
            mounts=(Mount(bench.prepared, _PARTS),),
        ),
        limits,
    )
    if refused(outcome, no):
        return settle(replace(outcome, stdout=b""), limits, "compile_error")
    said = failure(outcome.stdout + outcome.stderr)
    return proven(settle(outcome, limits, said), outcome, word)


def cargo_is_needless(source: Source) -> bool:
    """True when the test build alone, made without cargo, behaves as cargo's two steps do.

    The text outside the row's tests must not mention configuration, attributes, macros of its own,
    the test module, the environment, files, processes or foreign code, and must start with its
    ``main``.
    """
    candidate = source.text.removesuffix(reference_text(source.row, source.family))
    return candidate.lstrip().startswith(_MAIN) and not re.search(
        r"\bcfg\b|#\s*!?\s*\[|\btests?\b|macro_rules|\binclude|env\b|\bfs\b|\bFile\b"
        r"|Path|\bCommand\b|\bprocess\b|\bextern\b|\bio\b|\bos\b|\bnet\b|\bpanic::|asm!|\blibc\b",
        candidate,
    )


def libraries(bench: Bench) -> dict[str, str]:
    """The rlib of each crate of the candidate's, as paths in the sandbox; those that are sure."""
    found = {name: _library(bench.prepared, name) for name in _NAMES}
    return {name: path for name, path in found.items() if path is not None}


def _library(prepared: Path, name: str) -> str | None:
    """The one rlib of a crate of the candidate's, as a path in the sandbox."""
    found = [
        path
        for path in (prepared / _LIBRARIES).glob(f"lib{name}-*.rlib")
        if name != "rand" or _is_ours(path)
    ]
    return f"{_PARTS}/{_LIBRARIES}/{found[0].name}" if len(found) == 1 else None


def _is_ours(library: Path) -> bool:
    """True for our face of rand, by cargo's record of what the library was built from."""
    record = library.with_name(library.stem.removeprefix("lib") + ".d")
    return record.is_file() and "rand/src/lib.rs" in record.read_text().split()


def failure(output: bytes) -> Status:
    """What kind of failure cargo's output tells of."""
    if re.search(rb"^error(\[E\d+\])?: ", output, re.MULTILINE) and b"running " not in output:
        return "compile_error"
    return "wrong" if b"assertion" in output else "runtime_error"


def _registries() -> list[Path]:
    own = installed("crates")
    return [_DEBIANS, *([own] if own else [])]


def _project(text: str) -> dict[str, bytes]:
    return {
        "Cargo.toml": _CARGO_TOML.encode(),
        ".cargo/config.toml": _CARGO_CONFIG.encode(),
        _MAIN_FILE: text.encode("utf-8", "surrogatepass"),
    }


def _crate_files() -> dict[str, bytes]:
    return {
        f"rand/{path.relative_to(_OURS / 'rand')}": path.read_bytes()
        for path in sorted((_OURS / "rand").rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
