"""Every attack of the corpus fails, disturbs nobody, and leaves nothing behind."""

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from runners.evaluate.languages import LANGUAGES
from runners.evaluate.sandbox.base import MIB, Limits
from runners.evaluate.sandbox.bwrap import BwrapSandbox
from tests.runners.evaluate.conftest import Bar, OpenBar, Rows
from tests.runners.evaluate.hostile import ATTACKS, COMPILER_BOMBS, MARK, Prey, attack, bomb
from tests.runners.evaluate.test_sandbox import mounts_of_the_machine, processes_with
from tests.runners.evaluate.test_ways import SLACK

FAMILY = "humanevalsynthesize"
# Roomy enough for the right solution beside them on a busy machine.
TIGHT = Limits(2.0, 6.0, memory_bytes=1024 * MIB, processes=160, disk_bytes=64 * MIB)
LEFT_BYTES = 64 * MIB

# The default run tries one attack of each sort; the whole corpus is in the exhaustive sweep.
SOME = {
    "python": ["fork bomb", "100,000 files"],
    "java": ["/etc/shadow", "double-forked daemon"],
    "js": ["memory bomb", "environment of others"],
    "cpp": ["killing the parents", "disk fill"],
    "go": ["network by IPv4"],
    "rust": ["forged verdicts"],
}


class Hunt:
    """The prey, and whether any of it was reached."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.mark = MARK + secrets.randbelow(10**12)
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


def tight(bar: Bar) -> Bar:
    """The same bar under limits that attacks reach soon."""
    return replace(bar, bench=replace(bar.bench, limits=TIGHT))


def check_contained(bar: Bar, rows: Rows, hunt: Hunt, hostile: dict[str, str]) -> None:
    """Both ways judge each text as not passed, and the solution after it as passed."""
    row = rows(bar.name)[0]
    right = bar.source(row, row["prompt"] + row["canonical_solution"], FAMILY)
    mounts, temporary = mounts_of_the_machine(), own_temporary_files()
    for name, text in hostile.items():
        source = bar.source(row, text, FAMILY)
        plain = (bar.plain(source), bar.plain(right))
        for judged, after in (plain, bar.fast([source, right])):
            assert judged is None or not judged.passed, (name, judged)
            assert after is None or after.passed, (name, after)
        assert processes_with(str(hunt.mark)) == [], name
        assert hunt.reached() == [], name
    assert mounts_of_the_machine() == mounts
    assert own_temporary_files() == temporary
    assert memory_in_use(bar) < LEFT_BYTES


def own_temporary_files() -> list[str]:
    """Files of sandboxes and servers of ours in the folder for temporary files."""
    return sorted(p.name for p in Path(tempfile.gettempdir()).glob(f"mft-*-{os.getpid()}*"))


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


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_an_attack_is_contained(bar: OpenBar, rows: Rows, hunt: Hunt, language: str) -> None:
    row = rows(language)[0]
    hostile = {name: attack(language, name, row, hunt.prey, hunt.mark) for name in SOME[language]}

    check_contained(tight(bar(language, slack=SLACK[language])), rows, hunt, hostile)


@pytest.mark.full
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_attack_is_contained(bar: OpenBar, rows: Rows, hunt: Hunt, language: str) -> None:
    row = rows(language)[0]
    hostile = {name: attack(language, name, row, hunt.prey, hunt.mark) for name in ATTACKS}

    check_contained(tight(bar(language, slack=SLACK[language])), rows, hunt, hostile)


@pytest.mark.full
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_compiler_bomb_is_contained(
    bar: OpenBar, rows: Rows, hunt: Hunt, language: str
) -> None:
    row = rows(language)[0]
    hostile = {name: bomb(language, name, row) for name in COMPILER_BOMBS[language]}

    check_contained(tight(bar(language, slack=SLACK[language])), rows, hunt, hostile)
