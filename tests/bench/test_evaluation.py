"""How much faster the fast way is: all 13 tasks of canonical solutions, both ways, in one run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runners.benchmarks.rows import load_questions
from runners.benchmarks.tasks import TASKS

BAR = 4.0


def seconds(folder: Path, run: Path, benchmarks: Path, way: str, tasks: list[str]) -> float:
    run.mkdir(parents=True)
    config = {"generations": str(folder), "benchmarks": str(benchmarks), "way": way}
    (run / "config.json").write_text(json.dumps({**config, "tasks": tasks}))
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "runners.evaluate", str(run)], check=True)
    return time.monotonic() - begin


@pytest.mark.bench
@pytest.mark.timeout(3600)
def test_scoring_all_tasks_is_at_least_four_times_faster_than_the_plain_way(
    shared: Path, tmp_path: Path
) -> None:
    benchmarks = shared / "benchmarks"
    folder = tmp_path / "generations_bench"
    folder.mkdir()
    for task in TASKS:
        stored = []
        for question in load_questions(benchmarks, task):
            row = question.row
            base = "prompt" if task.startswith("humanevalsynthesize") else "declaration"
            whole = row["code"] if task == "mbpp" else row[base] + row["canonical_solution"]
            stored.append([whole])
        (folder / f"generations_{task}_bench.json").write_text(json.dumps(stored))
    languages = list(dict.fromkeys(task.rsplit("-", 1)[-1] for task in TASKS))
    total = {"plain": 0.0, "fast": 0.0}
    print(f"\n{'language':10}{'plain s':>10}{'fast s':>10}{'ratio':>8}   {os.cpu_count()} cores")
    for language in languages:
        tasks = [task for task in TASKS if task.rsplit("-", 1)[-1] == language]
        taken = {
            way: seconds(folder, tmp_path / way / language, benchmarks, way, tasks) for way in total
        }
        for way, spent in taken.items():
            total[way] += spent
        ratio = taken["plain"] / taken["fast"]
        print(f"{language:10}{taken['plain']:10.1f}{taken['fast']:10.1f}{ratio:8.1f}")
    ratio = total["plain"] / total["fast"]
    print(f"{'all':10}{total['plain']:10.1f}{total['fast']:10.1f}{ratio:8.1f}")

    assert ratio >= BAR
