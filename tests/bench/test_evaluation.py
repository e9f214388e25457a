"""How much faster the fast way is: all 13 tasks of canonical solutions, both ways, in one run.

Each language is a test of its own, so that it can be measured alone; the last one adds them up.
"""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from runners.benchmarks.rows import load_questions
from runners.benchmarks.tasks import TASKS, get_task
from runners.evaluate.ceiling import CANONICAL_BY_CHANCE
from runners.evaluate.languages import LANGUAGES

BAR = 4.0
MEMORY_BAR = 4 << 30


@dataclass(frozen=True)
class Pass:
    """One way through a language's tasks: wall seconds, most memory in use, every verdict.

    ``programs`` is the CPU seconds that the verdicts tell of: compiling and running, each question
    by itself. What is done for many at once (Go's batches, Java's warm compiler) is not in it.
    """

    seconds: float
    programs: float
    peak_bytes: int
    verdicts: dict[tuple[str, int], tuple[bool, str]]


measured: dict[str, dict[str, Pass]] = {}


class Peak:
    """The most memory that this machine had in use, beyond what it had before."""

    def __init__(self) -> None:
        self._before = self._least = psutil.virtual_memory().available
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self._least = min(self._least, psutil.virtual_memory().available)

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._before - self._least


def evaluate(folder: Path, run: Path, benchmarks: Path, way: str, tasks: list[str]) -> Pass:
    run.mkdir(parents=True)
    config = {"generations": str(folder), "benchmarks": str(benchmarks), "way": way}
    (run / "config.json").write_text(json.dumps({**config, "tasks": tasks}))
    peak, begin = Peak(), time.monotonic()
    try:
        subprocess.run([sys.executable, "-m", "runners.evaluate", str(run)], check=True)
    finally:
        most = peak.stop()
    seconds = time.monotonic() - begin
    verdicts, programs = {}, 0.0
    for task in tasks:
        for line in (run / f"artifacts/metrics_bench/verdicts_{task}_bench.jsonl").open():
            verdict = json.loads(line)
            verdicts[task, verdict["index"]] = (verdict["passed"], verdict["status"])
            programs += verdict["seconds"]
    return Pass(seconds, programs, most, verdicts)


def generations(folder: Path, benchmarks: Path, tasks: list[str], limit: int | None) -> Path:
    folder.mkdir(parents=True)
    for task in tasks:
        stored, language = [], get_task(task).language
        for question in load_questions(benchmarks, task)[:limit]:
            row = question.row
            base = "prompt" if task.startswith("humanevalsynthesize") else "declaration"
            whole = row["code"] if task == "mbpp" else row[base] + row["canonical_solution"]
            # A verdict by chance is no part of a comparison, and one that never ends no speed.
            drawn = task != "mbpp" and CANONICAL_BY_CHANCE.get(language) == question.index
            stored.append(["" if drawn else whole])
        (folder / f"generations_{task}_bench.json").write_text(json.dumps(stored))
    return folder


@pytest.mark.bench
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_fast_way_gives_the_plain_ways_verdicts_in_less_time(
    shared: Path, tmp_path: Path, language: str
) -> None:
    benchmarks = shared / "benchmarks"
    tasks = [task for task in TASKS if get_task(task).language == language]
    folder = generations(tmp_path / "generations_bench", benchmarks, tasks, None)
    # Parts that are built once for a toolchain are no part of either way.
    one = generations(tmp_path / "one" / "generations_bench", benchmarks, tasks[:1], 1)
    evaluate(one, tmp_path / "warm-up", benchmarks, "fast", tasks[:1])

    ways = {
        way: evaluate(folder, tmp_path / way, benchmarks, way, tasks) for way in ("fast", "plain")
    }

    measured[language] = ways
    cores = len(os.sched_getaffinity(0))
    print(f"\n{cores} cores; {line(language, [ways])}")
    for name, way in ways.items():
        # The rest is sandboxes, what is done for many at once, and cores that wait.
        print(f"  {name}: {bound(way, cores)}")
    assert ways["fast"].verdicts == ways["plain"].verdicts
    assert max(way.peak_bytes for way in ways.values()) < MEMORY_BAR


@pytest.mark.bench
def test_scoring_all_tasks_is_at_least_four_times_faster_than_the_plain_way() -> None:
    if set(measured) != set(LANGUAGES):
        pytest.skip(f"needs all languages measured in this run, not only {sorted(measured)}")
    print()
    for language, ways in measured.items():
        print(line(language, [ways]))
    print(line("all", list(measured.values())))

    assert total(list(measured.values()), "plain") >= BAR * total(list(measured.values()), "fast")


def total(passes: list[dict[str, Pass]], way: str) -> float:
    return sum(ways[way].seconds for ways in passes)


def bound(way: Pass, cores: int) -> str:
    """What bounds a pass: how much of the cores' time the programs themselves took."""
    each = 1000 * way.programs / len(way.verdicts)
    share = way.programs / (way.seconds * cores)
    return f"{each:.0f} ms of CPU a program, {share:.0%} of what {cores} cores had to give"


def line(name: str, passes: list[dict[str, Pass]]) -> str:
    plain, fast = total(passes, "plain"), total(passes, "fast")
    peak = max(way.peak_bytes for ways in passes for way in ways.values()) / 2**30
    return (
        f"{name:7} plain {plain:7.1f} s  fast {fast:6.1f} s  {plain / fast:5.1f} times  "
        f"peak {peak:.1f} GiB"
    )
