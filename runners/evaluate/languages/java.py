"""Java: javac, then a JVM for the program; the fast way keeps the compiler warm."""

import io
import re
import shutil
import tarfile
from collections.abc import Mapping
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
from runners.evaluate.languages.java_fast import JavaFast
from runners.evaluate.languages.parts import unpack_into
from runners.evaluate.languages.probe import answer, shown_at
from runners.evaluate.languages.proof import new_word, proven
from runners.evaluate.sandbox.base import Mount, Program
from runners.evaluate.verdicts import Status

# The reference gives javac 5 s of wall time and up to five tries.
_COMPILE_SECONDS = 25.0
_RUN_SECONDS = 10.0
_CLASSES_BYTES = 64 << 20
_INSTALL = "apt-get install -y default-jdk-headless"
_SERVER = Path(__file__).parent / "java_server.java"
_PROOF = """
class WORD {
    public static void main(String[] words) throws Throwable {
        Main.main(words);
        System.out.flush();
        new java.io.FileOutputStream(java.io.FileDescriptor.out).write("WORD".getBytes());
    }
}
"""
_BUILD = '"$1" JavaServer.java && tar cf parts.tar -- *.class'
_COMPILE = '"$1" Main.java && tar cf classes.tar -- *.class'


class Java:
    """A JDK of version 11 or later."""

    batch = 1
    name = "java"

    def assemble(self, row: Mapping[str, Any], candidate: str, family: str) -> str:
        """The candidate without an empty Main of its own, and the tests."""
        kept = candidate.replace("public class Main {\n    }", "").strip()
        return kept + "\n" + reference_text(row, family)

    def discover(self) -> Toolchain | Missing:
        """javac and java of one JDK."""
        compiler = shutil.which("javac")
        if compiler is None:
            return Missing("java", "javac is not installed", _INSTALL)
        home = Path(compiler).resolve().parent.parent
        version = answer(str(home / "bin" / "javac"), "-version")
        if version is None:
            return Missing("java", f"{compiler} does not run", _INSTALL)
        inside, mounts = shown_at(home, "/opt/jdk")
        # Debian keeps a JDK's settings in /etc and links to them.
        etc = tuple(Mount(path, str(path)) for path in sorted(Path("/etc").glob("java-*-openjdk")))
        return Toolchain(
            "java",
            version,
            {"compiler": f"{inside}/bin/javac", "java": f"{inside}/bin/java"},
            (*mounts, *etc),
        )

    def prepare(self, bench: Bench, folder: Path) -> None:
        """The compile server's classes."""
        outcome = bench.run(
            Program(
                argv=["/bin/sh", "-c", _BUILD, "sh", bench.toolchain.programs["compiler"]],
                files={"JavaServer.java": _SERVER.read_bytes()},
                collect="parts.tar",
                keep_stdout=PARTS_BYTES,
            ),
            bench.building(120.0),
        )
        unpack_into(folder, outcome, "the compile server for Java")

    def judge(self, source: Source, bench: Bench) -> Judgement:
        """Compile, then run ``Main`` in a sandbox of its own."""
        limits = bench.timed(_COMPILE_SECONDS)
        word = new_word() if bench.strict else None
        built = bench.run(
            Program(
                argv=["/bin/sh", "-c", _COMPILE, "sh", bench.toolchain.programs["compiler"]],
                files={"Main.java": with_proof(source.text, word).encode("utf-8", "surrogatepass")},
                collect="classes.tar",
                keep_stdout=_CLASSES_BYTES,
            ),
            limits,
        )
        compiled = settle(built, limits, "compile_error")
        if not compiled.passed:
            return compiled
        return after(compiled, self.run(class_files(built.stdout), bench, word))

    def run(self, classes: Mapping[str, bytes], bench: Bench, word: str | None) -> Judgement:
        """Run ``Main``, or the class that proves its end, in a JVM of its own."""
        limits = bench.timed(_RUN_SECONDS)
        program = bench.toolchain.programs["java"]
        outcome = bench.run(
            Program(argv=[program, "-cp", ".", word or "Main"], files=classes), limits
        )
        return proven(settle(outcome, limits, _failure(outcome.stderr)), outcome, word)

    def fast(self, bench: Bench) -> FastWay | None:
        """A warm compiler, and the same run."""
        return JavaFast(bench, self.run, with_proof)


def with_proof(text: str, word: str | None) -> str:
    """The program with a class behind it that calls ``Main`` and then writes the word."""
    return text if word is None else text + _PROOF.replace("WORD", word)


def class_files(archive: bytes) -> dict[str, bytes]:
    """The class files in a tar archive that came out of the sandbox, read in memory only."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None and "/" not in name and name.endswith(".class"):
                found[name] = content.read()
    return found


def _failure(stderr: bytes) -> Status:
    return "wrong" if re.search(rb"AssertionError", stderr) else "runtime_error"
