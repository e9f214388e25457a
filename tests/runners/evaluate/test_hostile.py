"""Every attack of the corpus fails, disturbs nobody, and leaves nothing behind."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from runners.evaluate.languages import LANGUAGES
from runners.evaluate.sandbox.base import MIB, Limits
from runners.evaluate.sandbox.bwrap import BwrapSandbox
from runners.evaluate.sandbox.cgroup import make_cage
from tests.runners.evaluate.conftest import Bar, OpenBar, Rows
from tests.runners.evaluate.hostile import (
    ATTACKS,
    COMPILER_BOMBS,
    EXPECTED,
    GO_BATCHED,
    HARMLESS,
    Prey,
    attack,
    batched_attack,
    bomb,
    command_of,
)
from tests.runners.evaluate.test_sandbox import mounts_of_the_machine, processes_with
from tests.runners.evaluate.test_ways import SLACK

FAMILY = "humanevalsynthesize"
# Roomy enough for the right solution beside them on a busy machine.
TIGHT = Limits(2.0, 6.0, memory_bytes=1024 * MIB, processes=160, disk_bytes=64 * MIB)
LEFT_BYTES = 64 * MIB

# The default run tries one attack of each sort; the whole corpus is in the exhaustive sweep.
SOME = {
    "python": ["fork bomb", "100,000 files", "endless errors"],
    "java": ["/etc/shadow", "double-forked daemon"],
    "js": ["memory bomb", "environment of others", "killing the parents"],
    "cpp": ["killing the parents", "disk fill"],
    "go": ["network by IPv4"],
    "rust": ["forged verdicts"],
}
# Those that a control group would end.
COUNTED = [
    *("fork bomb", "memory bomb", "memory in unnamed files", "memory in segments", "disk fill"),
    *("double-forked daemon", "SIGTERM ignored"),
]
# A fast way that is never asked about a program by itself.
NOT_ALONE = {"go", "js"}


class Hunt:
    """The prey, and whether any of it was reached."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        # In the environment of everything that the attacks start.
        self.mark = f"hunt-{secrets.token_hex(8)}"
        secret = f"secret{secrets.token_hex(8)}"
        (folder / "diary").write_text(secret)
        self._folder = folder
        self._four = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._six = self._four
        if socket.has_ipv6:
            self._six = stack.enter_context(
                socket.create_server(("::1", 0), family=socket.AF_INET6)
            )
        path = folder / "socket"
        self._unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        self._unix.bind(str(path))
        self._unix.listen()
        os.environ["MFT_TEST_SECRET"] = secret
        stack.callback(os.environ.pop, "MFT_TEST_SECRET")
        self.prey = Prey(
            secret,
            self._four.getsockname()[1],
            self._six.getsockname()[1],
            str(path),
            str(folder),
        )

    def reached(self) -> list[str]:
        """What of the prey somebody got at."""
        found = [path.name for path in self._folder.iterdir()]
        touched = [name for name in found if name not in {"diary", "socket"}]
        for server in {self._four, self._six, self._unix}:
            server.setblocking(False)
            try:
                server.accept()
            except BlockingIOError:
                continue
            touched.append(str(server.getsockname()))
        return touched


@pytest.fixture
def hunt() -> Iterator[Hunt]:
    folder = tempfile.mkdtemp(prefix="mft-prey-")
    try:
        with ExitStack() as stack:
            yield Hunt(stack, Path(folder))
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that is this test's alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def tight(bar: Bar, hunt: Hunt) -> Bar:
    """The same bar under limits that attacks reach soon, its processes marked."""
    tool = bar.bench.toolchain
    marked = replace(tool, environment={**tool.environment, "HUNT": hunt.mark})
    return replace(bar, bench=replace(bar.bench, limits=TIGHT, toolchain=marked))


def check_contained(
    bar: Bar, rows: Rows, hunt: Hunt, hostile: dict[str, str], temporary: Path
) -> None:
    """Both ways judge each text as not passed, and the solution after it as passed."""
    row = rows(bar.name)[0]
    right = bar.source(row, row["prompt"] + row["canonical_solution"], FAMILY)
    mounts, shared_memory = mounts_of_the_machine(), bytes_in_shared_memory()
    for name, text in hostile.items():
        source = bar.source(row, text, FAMILY)
        judged, after = bar.plain(source), bar.plain(right)
        assert not judged.passed, (name, judged)
        assert judged.status in EXPECTED.get(name, {judged.status}), (name, judged)
        assert judged.status != "sandbox_error", (name, judged)
        assert after.passed, (name, after)
        quick, after_it = bar.fast([source, right])
        assert quick is None or not quick.passed, (name, quick)
        assert after_it is None or after_it.passed, (name, after_it)
        assert after_it is not None or bar.name in NOT_ALONE, name
        assert processes_with(hunt.mark) == [], name
        assert hunt.reached() == [], name
    assert mounts_of_the_machine() == mounts
    assert [*temporary.iterdir()] == []
    assert memory_in_use(bar) < LEFT_BYTES
    # Other programs of this machine use it as well; what an attack leaves would be more.
    assert bytes_in_shared_memory() - shared_memory < 8 * LEFT_BYTES


def bytes_in_shared_memory() -> int:
    """Bytes of all tmpfs files, unnamed files and segments of this machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Shmem:"))


def memory_in_use(bar: Bar) -> int:
    """Bytes that the cage of the sandbox still holds; 0 where there is no cage.

    The kernel also counts what it keeps of files that were read, the compilers above all, and
    gives that back when memory is short: memory of processes and of tmpfs is what an attack leaves.
    """
    sandbox = bar.bench.sandbox
    assert isinstance(sandbox, BwrapSandbox)
    if sandbox._cage is None:
        return 0
    lines = (sandbox._cage.memory / "memory.stat").read_text().splitlines()
    kept = dict(line.split() for line in lines)
    names = ("anon", "shmem") if sandbox._cage.version == 2 else ("total_rss", "total_shmem")
    return sum(int(kept[name]) for name in names)


@pytest.mark.parametrize("name", HARMLESS)
def test_an_attack_succeeds_where_there_is_no_sandbox(hunt: Hunt, name: str) -> None:
    """Else its failure inside would show nothing."""
    done = subprocess.run(
        ["sh", "-c", command_of(name, hunt.prey)], capture_output=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    if name not in {"home folder", "environment of others"}:
        assert hunt.reached() != []


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_an_attack_is_contained(
    bar: OpenBar, rows: Rows, hunt: Hunt, temporary: Path, language: str
) -> None:
    row = rows(language)[0]
    hostile = {name: attack(language, name, row, hunt.prey) for name in SOME[language]}

    at = tight(bar(language, slack=SLACK[language]), hunt)

    check_contained(at, rows, hunt, hostile, temporary)


# Where we are not root, a watchdog needs its share of a core, which other tests may not leave it.
@pytest.mark.full
@pytest.mark.timeout(600)
def test_an_attack_is_contained_where_no_control_group_counts(
    bar: OpenBar, rows: Rows, hunt: Hunt, temporary: Path
) -> None:
    row, at = rows("python")[0], tight(bar("python", slack=SLACK["python"]), hunt)
    with net(temporary.parent) as (executable, torn):
        uncaged = BwrapSandbox(executable=executable, cage=lambda: None)
        try:
            assert uncaged.limits_by == "watchdog"
            at = replace(at, bench=replace(at.bench, sandbox=uncaged))
            for name in COUNTED:
                hostile = {name: attack("python", name, row, hunt.prey)}
                check_contained(at, rows, hunt, hostile, temporary)
                assert torn() == "", name
        finally:
            uncaged.close()


@contextmanager
def net(folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """A bubblewrap over a net that no attack may reach, so that none can hurt this machine.

    The net is far below what is tried. It is told what has fallen into it: memory, processes.
    """
    cage = make_cage()
    if cage is None:
        pytest.skip(
            "without control groups, an attack that is not contained would hurt this machine"
        )
    try:
        cage.prepare(replace(TIGHT, memory_bytes=3072 * MIB, processes=4000))
        joins = "".join(f"echo $$ > {group}/cgroup.procs; " for group in cage.folders)
        path = folder / "bwrap"
        path.write_text(f'#!/bin/sh\n{joins}exec {shutil.which("bwrap")} "$@"\n')
        path.chmod(0o755)
        crowded = cage.pids / "pids.events"

        def torn() -> str:
            if cage.out_of_memory():
                return "memory"
            return "" if crowded.read_text().startswith("max 0") else "processes"

        yield str(path), torn
    finally:
        cage.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", GO_BATCHED)
def test_an_attack_from_a_batch_of_go_programs_is_contained(
    bar: OpenBar, rows: Rows, hunt: Hunt, name: str
) -> None:
    row, at = rows("go")[0], tight(bar("go", slack=SLACK["go"]), hunt)
    right = at.source(row, row["prompt"] + row["canonical_solution"], FAMILY)
    hostile = at.source(row, batched_attack(name, row), FAMILY)

    judged, after = at.fast([hostile, right])

    assert judged is None or not judged.passed
    assert after is not None
    assert after.passed
    assert not at.plain(hostile).passed
    assert processes_with(hunt.mark) == []


@pytest.mark.full
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_attack_is_contained(
    bar: OpenBar, rows: Rows, hunt: Hunt, temporary: Path, language: str
) -> None:
    row = rows(language)[0]
    hostile = {name: attack(language, name, row, hunt.prey) for name in ATTACKS}

    at = tight(bar(language, slack=SLACK[language]), hunt)

    check_contained(at, rows, hunt, hostile, temporary)


@pytest.mark.slow
def test_a_compiler_bomb_is_contained(
    bar: OpenBar, rows: Rows, hunt: Hunt, temporary: Path
) -> None:
    row = rows("cpp")[0]
    names = ("endless header", "templates without end", "the password file")
    hostile = {name: bomb("cpp", name, row) for name in names}

    at = tight(bar("cpp", slack=SLACK["cpp"]), hunt)

    check_contained(at, rows, hunt, hostile, temporary)


@pytest.mark.full
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_compiler_bomb_is_contained(
    bar: OpenBar, rows: Rows, hunt: Hunt, temporary: Path, language: str
) -> None:
    row = rows(language)[0]
    hostile = {name: bomb(language, name, row) for name in COMPILER_BOMBS[language]}

    at = tight(bar(language, slack=SLACK[language]), hunt)

    check_contained(at, rows, hunt, hostile, temporary)
