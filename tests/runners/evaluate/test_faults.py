"""A fault of the sandbox, or of one toolchain, is no fault of a program and ends no evaluation."""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runners.evaluate.items import Item, TaskItems
from runners.evaluate.judge import Judge
from runners.evaluate.languages import LANGUAGES, get_language
from runners.evaluate.languages.base import Bench, Judgement, Missing
from runners.evaluate.pool import judge_all, units
from runners.evaluate.sandbox.base import Limits, Outcome, Program, SandboxError, Server
from runners.evaluate.sandbox.bwrap import BwrapSandbox
from runners.evaluate.sandbox.halt import Halt, Halted
from runners.evaluate.toolcache import prepared
from tests.runners.evaluate.conftest import NewRun, Rows

LIMITS = Limits(1.0, 1.0, memory_bytes=2 << 30)


class Failing(BwrapSandbox):
    """Fails for the first so many programs, as a machine does that is short of something."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def _fail(self) -> None:
        if self.left > 0:
            self.left -= 1
            raise SandboxError("the sandbox could not be made: no room")

    def run(self, program: Program, limits: Limits) -> Outcome:
        self._fail()
        return super().run(program, limits)

    def serve(self, program: Program, limits: Limits) -> Server:
        self._fail()
        return super().serve(program, limits)


def question(shared: Path, language: str) -> TaskItems:
    from runners.benchmarks.rows import load_questions
    from runners.benchmarks.tasks import get_task

    task = f"humanevalsynthesize-{language}"
    first = load_questions(shared / "benchmarks", task)[0]
    right = first.row["prompt"] + first.row["canonical_solution"]
    return TaskItems(get_task(task), tuple(Item(first, sample, right) for sample in range(2)))


def failing_judge(language: str, times: int) -> Judge:
    if shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap: apt-get install -y bubblewrap")
    tool = get_language(language).discover()
    if isinstance(tool, Missing):
        pytest.skip(f"{tool.what}: {tool.install}")
    with_parts = BwrapSandbox()
    try:
        bench = Bench(with_parts, tool, LIMITS, Path())
        parts = prepared(get_language(language), bench)
    finally:
        with_parts.close()
    return Judge(Failing(times), {language: tool}, {language: parts}, LIMITS, fast=True)


@pytest.mark.slow
@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "js"])
def test_a_passing_fault_under_the_fast_way_changes_no_verdict(shared: Path, language: str) -> None:
    task, told = question(shared, language), []
    judge = failing_judge(language, 1)

    def report(item: Item, judgement: Judgement) -> None:
        told.append((item.sample, judgement.status))

    try:
        judge.judge(task.items, language, task.task.family, report)
    finally:
        judge.close()

    assert told == [(0, "passed"), (1, "passed")]


def judged(task: TaskItems, times: int) -> list[str]:
    halt = Halt()
    faults = iter([times, 0])
    try:
        found = judge_all(
            units([task], {}, 1),
            lambda: failing_judge("python", next(faults)),
            workers=1,
            halt=halt,
            stopping=lambda: False,
        )
        return [one.judgement.status for one in found]
    finally:
        halt.close()


def test_a_fault_that_lasts_a_while_is_tried_again_at_the_end(shared: Path) -> None:
    # The server and both plain tries of the first generation.
    assert judged(question(shared, "python"), 3) == ["passed", "passed"]


def test_a_sandbox_that_does_nothing_but_fail_ends_the_evaluation(shared: Path) -> None:
    task = question(shared, "python")
    many = TaskItems(task.task, tuple(task.items[0] for _ in range(40)))

    with pytest.raises(SandboxError, match="20 times in a row"):
        judged(many, 1000)


FAULTY = """#!/bin/sh
# As bubblewrap, but it fails for Python's programs while the file beside it is there.
if [ -e "$(dirname "$0")/broken" ]; then
    case "$*" in *harness.py*) echo "bwrap: no room" >&2; exit 1 ;; esac
fi
exec BWRAP "$@"
"""
PYTHON, JS = "humanevalsynthesize-python", "humanevalsynthesize-js"


def test_a_task_that_the_sandbox_failed_on_has_no_score_and_is_judged_when_resumed(
    new_run: NewRun, rows: Rows, tmp_path: Path
) -> None:
    tools, broken = tmp_path / "bin", tmp_path / "bin" / "broken"
    tools.mkdir()
    (tools / "bwrap").write_text(FAULTY.replace("BWRAP", shutil.which("bwrap") or "bwrap"))
    (tools / "bwrap").chmod(0o755)
    broken.touch()
    path = f"{tools}:{tmp_path}:/usr/local/bin:/usr/bin:/bin"
    run = new_run(
        {
            task: [[row["prompt"] + row["canonical_solution"]] for row in rows(language)[:2]]
            for task, language in ((PYTHON, "python"), (JS, "js"))
        }
    )

    code, said = run.finish(PATH=path)

    assert code == 1, said
    assert f"2 of {PYTHON}" in said
    scored = [event["task"] for event in run.events if event["event"] == "score"]
    assert scored == [JS]
    assert not [*run.folder.glob(f"artifacts/metrics_tiny/metrics_{PYTHON}*")]
    notices = [event["text"] for event in run.events if event["event"] == "notice"]
    assert any(f"{PYTHON} is not scored" in text for text in notices)

    broken.unlink()
    code, said = run.finish(PATH=path)

    assert code == 0, said
    assert run.summary["tasks"][PYTHON]["passed"] == 2
    assert run.summary["tasks"][JS]["passed"] == 2


def test_a_language_whose_parts_cannot_be_built_is_named_and_the_others_are_scored(
    new_run: NewRun, rows: Rows, tmp_path: Path
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    # Found on this machine and not in the sandbox, as a compiler in somebody's home would be.
    (tools / "g++").write_text("#!/bin/sh\necho 'g++ 0.1'\n")
    (tools / "g++").chmod(0o755)
    run = new_run(
        {
            PYTHON: [[rows("python")[0]["prompt"] + rows("python")[0]["canonical_solution"]]],
            "humanevalsynthesize-cpp": [[rows("cpp")[0]["prompt"]]],
        }
    )

    code, said = run.finish(
        PATH=f"{tools}:/usr/local/bin:/usr/bin:/bin", MFT_TOOLCHAINS=str(tmp_path / "toolchains")
    )

    assert code == 0, said
    assert list(run.summary["tasks"]) == [PYTHON]
    (notice,) = [event["text"] for event in run.events if event["event"] == "notice"]
    assert "humanevalsynthesize-cpp skipped: the precompiled C++ prelude could not be" in notice


def test_waiting_for_parts_that_another_process_builds_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setenv("MFT_TOOLCHAINS", str(tmp_path))
    (tmp_path / "built").mkdir()
    halt, ended = Halt(), []
    judge_bench: Any = failing_judge_bench()

    def wait() -> None:
        try:
            prepared(get_language("python"), judge_bench, halt)
        except Halted:
            ended.append(True)

    with (tmp_path / "built" / ".python.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive()
        halt.set()
        waiting.join(10)
    halt.close()

    assert ended == [True]


def failing_judge_bench() -> Bench:
    tool = get_language("python").discover()
    assert not isinstance(tool, Missing)
    return Bench(BwrapSandbox(cage=lambda: None), tool, LIMITS, Path())


NO_NAMESPACES = """#!/bin/sh
echo "bwrap: No permissions to create new namespace" >&2
exit 1
"""


@pytest.fixture
def no_namespaces(tmp_path: Path) -> str:
    """A PATH on which bubblewrap is told by the kernel that it may make no namespaces."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "bwrap").write_text(NO_NAMESPACES)
    (tools / "bwrap").chmod(0o755)
    return f"{tools}:/usr/local/bin:/usr/bin:/bin"


def test_without_user_namespaces_the_lines_that_enable_them_are_told(
    new_run: NewRun, rows: Rows, no_namespaces: str
) -> None:
    run = new_run({PYTHON: [[rows("python")[0]["prompt"]]]})

    code, said = run.finish(PATH=no_namespaces)

    assert code == 5
    assert "No permissions to create new namespace" in said
    assert "sysctl kernel.unprivileged_userns_clone=1" in said
    assert "sysctl kernel.apparmor_restrict_unprivileged_userns=0" in said
    assert "--sandbox docker" in said
    assert not [event for event in run.events if event["event"] == "score"]


def test_no_sandbox_has_to_be_asked_for_twice_on_the_command_line_too(
    new_run: NewRun, rows: Rows, mft_home: Path
) -> None:
    import subprocess
    import sys

    run = new_run({PYTHON: [[rows("python")[0]["prompt"]]]})
    folder = json.loads((run.folder / "config.json").read_text())["generations"]
    code = "from mft_tui.cli.main import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", folder, "--sandbox", "none"],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 4, done.stderr
    assert "--sandbox none --i-understand" in done.stderr
    assert not (mft_home / "runs").exists()
