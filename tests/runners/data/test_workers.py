"""Worker processes: how many, and what is told when one cannot begin."""

from pathlib import Path

import pytest

from runners.data.workers import available_cores, map_ordered
from runners.errors import MissingInputError


def unable(setup):
    raise MissingInputError(f"no {setup} here", where="place", fix="Bring one.")


def broken(setup):
    return {}[setup]


@pytest.mark.parametrize("workers", [1, 2])
def test_why_a_worker_could_not_begin_is_raised_as_it_was(workers):
    with pytest.raises(MissingInputError, match="no tokenizer here") as caught:
        list(map_ordered(f"{__name__}:unable", "tokenizer", [1, 2, 3], workers))
    assert (caught.value.where, caught.value.fix) == ("place", "Bring one.")


def test_a_fault_of_ours_before_a_worker_began_comes_with_its_traceback():
    with pytest.raises(RuntimeError, match="KeyError: 'x'"):
        list(map_ordered(f"{__name__}:broken", "x", [1, 2, 3], 2))


def test_a_containers_share_of_the_cores_bounds_the_workers(tmp_path: Path):
    for name, text in {
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/cpu.max": "100000 100000",
        "sys/fs/cgroup/cgroup.controllers": "cpu",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert available_cores(tmp_path) == 1


def many(setup):
    return lambda task: (f"{task} {i} {'x' * 100_000}" for i in range(task))


def half(setup):
    def work(task):
        yield task
        if task == 3:
            raise MissingInputError("it ended")

    return work


@pytest.mark.parametrize("workers", [1, 3])
def test_tasks_with_many_results_come_in_order_however_far_ahead_another_worker_is(workers):
    tasks = [2, 60, 0, 50, 1, 40, 3]
    seen = [
        (index, int(result.split()[1]))
        for index, result in map_ordered(f"{__name__}:many", None, tasks, workers)
    ]
    assert seen == [(i, n) for i, count in enumerate(tasks) for n in range(count)]


@pytest.mark.parametrize("workers", [1, 3])
def test_what_a_task_raises_comes_after_its_results_and_those_of_the_tasks_before(workers):
    seen = []
    results = map_ordered(f"{__name__}:half", None, [1, 2, 3, 4], workers)
    with pytest.raises(MissingInputError, match="it ended"):
        seen.extend(results)
    assert seen == [(0, 1), (1, 2), (2, 3)]
