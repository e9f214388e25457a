"""Go: ``go test`` with vet, against a build cache made once."""

import re
import shutil
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
    reference_text,
    settle,
)
from runners.evaluate.languages.go_fast import VET_CHECKS, GoFast
from runners.evaluate.languages.parts import unpack_into
from runners.evaluate.languages.probe import first_line, shown_at
from runners.evaluate.languages.proof import new_word, proven
from runners.evaluate.sandbox.base import Mount, Program
from runners.evaluate.toolfolders import installed
from runners.evaluate.verdicts import Status

_PACKAGES = (
    *("math", "strings", "fmt", "strconv", "time", "bytes", "regexp", "sort"),
    *("math/rand", "crypto/md5"),
)
_SECONDS = 20.0
_INSTALL = "apt-get install -y golang-go golang-github-stretchr-testify-dev"
_GOPATHS = ("/usr/share/gocode", "/usr/share/go")


class Go:
    """The go command, with testify in a GOPATH."""

    batch = 41
    name = "go"

    def assemble(self, row: Mapping[str, Any], candidate: str, family: str) -> str:
        """Set-up without the imports the candidate has, missing imports, the candidate, tests."""
        setup = _setup_for(str(row["test_setup"]) + "\n", candidate)
        code = candidate + "\n" + reference_text(row, family)
        missing = _missing_imports(setup + code)
        if "package main" in candidate and "package main" in setup:
            code = candidate.replace("package main", "") + "\n" + reference_text(row, family)
        block = "".join(f"    {name}\n" for name in sorted(missing))
        return setup + (f"import (\n{block})\n" if block else "") + code

    def discover(self) -> Toolchain | Missing:
        """go, and testify in Debian's GOPATH or in one that the installer filled."""
        go = shutil.which("go")
        if go is None:
            return Missing("go", "go is not installed", _INSTALL)
        own = installed("go")
        paths = [*(Path(p) for p in _GOPATHS), *([own] if own else [])]
        testify = "src/github.com/stretchr/testify/assert"
        gopath = next((p for p in paths if (p / testify).is_dir()), None)
        if gopath is None:
            return Missing("go", "the Go package testify is not installed", _INSTALL)
        root, root_mounts = shown_at(Path(go).resolve().parent.parent, "/opt/go")
        inside, path_mounts = shown_at(gopath, "/opt/gopath")
        environment = {
            "GO111MODULE": "off",
            "GOPATH": inside,
            "GOFLAGS": "",
            "GOTOOLCHAIN": "local",
            "GOCACHE": "/opt/gocache",
            "CGO_ENABLED": "1" if shutil.which("gcc") else "0",
        }
        return Toolchain(
            "go",
            first_line(go, "version"),
            {"go": f"{root}/bin/go"},
            (*root_mounts, *path_mounts),
            environment,
        )

    def prepare(self, bench: Bench, folder: Path) -> None:
        """A build cache that holds testify and what vet knows of it, and the batch builder."""
        limits = bench.building(300.0)
        argv = ["/bin/sh", "-c", _WARM_UP, "sh", bench.toolchain.programs["go"]]
        outcome = bench.run(
            Program(
                argv=argv,
                files={"main_test.go": _WARM_TEXT.encode(), "batch.go": _BATCH.read_bytes()},
                environment={"GOCACHE": "/work/gocache"},
                collect="cache.tar",
                keep_stdout=PARTS_BYTES,
            ),
            limits,
        )
        unpack_into(folder, outcome, "the Go build cache")

    def judge(self, source: Source, bench: Bench) -> Judgement:
        """``go test`` on the one file."""
        limits = bench.timed(_SECONDS)
        timeout = f"-timeout={limits.wall_seconds:.0f}s"
        word = new_word() if bench.strict else None
        files = {"main_test.go": source.text.encode("utf-8", "surrogatepass")}
        command = [bench.toolchain.programs["go"], "test", timeout]
        if word is not None:
            # Without -v the output of tests that pass is not shown.
            files["proof_test.go"] = _PROOF.replace("WORD", word).encode()
            command.append("-v")
        outcome = bench.run(
            Program(
                argv=[*command, *files],
                files=files,
                mounts=(Mount(bench.prepared / "cache", "/opt/gocache"),),
            ),
            limits,
        )
        judgement = settle(outcome, limits, failure(outcome.stdout + outcome.stderr))
        return proven(judgement, outcome, word)

    def fast(self, bench: Bench) -> FastWay | None:
        """Batches that are linked once."""
        return GoFast(bench, _SECONDS, failure)


_PROOF = """package main

import (
    "os"
    "testing"
)

func TestMain(m *testing.M) {
    out := os.Stdout
    if m.Run() == 0 {
        out.WriteString("\\nWORD\\n")
    }
}
"""
_WARM_TEXT = """package main

import (
    "bytes"
    _ "container/heap"
    _ "container/list"
    _ "container/ring"
    "crypto/md5"
    _ "encoding/hex"
    _ "errors"
    "fmt"
    "math"
    _ "math/big"
    _ "math/bits"
    _ "math/cmplx"
    "math/rand"
    "regexp"
    "sort"
    "strconv"
    "strings"
    "testing"
    "time"
    _ "unicode"
    _ "unicode/utf8"

    "github.com/stretchr/testify/assert"
)

func TestWarm(t *testing.T) {
    fmt.Println(math.Pi, strings.ToUpper("x"), strconv.Itoa(1), time.Now(), bytes.MinRead)
    fmt.Println(regexp.MustCompile("x"), sort.SearchInts(nil, 1), rand.Int(), md5.Size)
    assert.Equal(t, 1, 1)
}
"""
_WARM_UP = (
    '"$1" test main_test.go && mkdir -p parts warm/src/warm && '
    # What vet learns of the libraries is kept by its flags, and go test's are not go vet's.
    "sed s/main/warm/ main_test.go > warm/src/warm/warm.go && "
    f'GOPATH="$GOPATH:/work/warm" "$1" vet {" ".join(VET_CHECKS)} warm && '
    '"$1" build -o parts/batch batch.go && '
    "mv gocache parts/cache && tar cf cache.tar -C parts ."
)
_BATCH = Path(__file__).parent / "go_batch.go"


def _setup_for(setup: str, candidate: str) -> str:
    """The set-up without the imports that the candidate brings itself."""
    for line in setup.split("\n"):
        bare = line.replace("import", "").replace("(", "").replace(")", "").strip()
        if bare.startswith('"') and bare in candidate:
            setup = setup.replace(bare, "")
    return setup


def _missing_imports(text: str) -> set[str]:
    """Quoted short names of the packages that are used and not imported."""
    missing: set[str] = set()
    lines = text.split("\n")
    for package in _PACKAGES:
        if f'"{package}"' in text:
            continue
        name = package.split("/")[-1]
        if any(f"{name}." in line and not line.strip().startswith("//") for line in lines):
            missing.add(f'"{name}"')
    return missing


def failure(output: bytes) -> Status:
    """What kind of failure a ``go test`` output tells of."""
    if b"[build failed]" in output or b"[setup failed]" in output or b"vet:" in output:
        return "compile_error"
    return "wrong" if re.search(rb"--- FAIL:", output) else "runtime_error"
