"""The registry of tasks. A new benchmark is one file that makes a ``Benchmark``, and one line."""

from collections.abc import Sequence

from runners.benchmarks.family import Benchmark, Task
from runners.benchmarks.humanevalpack import HUMANEVALPACK
from runners.benchmarks.mbpp import MBPP
from runners.errors import UsageError

BENCHMARKS: tuple[Benchmark, ...] = (HUMANEVALPACK, MBPP)

_BY_NAME = {task.name: (benchmark, task) for benchmark in BENCHMARKS for task in benchmark.tasks}

TASKS: tuple[str, ...] = tuple(_BY_NAME)
"""The 13 task names, in the order that the competition lists them."""


def get_task(name: str) -> Task:
    """The task of that name. Raises ``UsageError`` naming the tasks there are."""
    return _find(name)[1]


def benchmark_of(task: str) -> Benchmark:
    """The benchmark that the named task belongs to. Raises ``UsageError`` as ``get_task``."""
    return _find(task)[0]


def chosen_tasks(names: Sequence[str]) -> tuple[str, ...]:
    """The named tasks in registry order, each once; all of them when none is named.

    A family or benchmark (``humanevalsynthesize``, ``humanevalpack``) stands for its tasks. Raises
    ``UsageError`` for a name that is none of these.
    """
    if not names:
        return TASKS
    wanted: set[str] = set()
    for name in names:
        group = {
            task.name
            for benchmark, task in _BY_NAME.values()
            if name in (task.name, task.family, benchmark.name)
        }
        wanted |= group or {get_task(name).name}
    return tuple(task for task in TASKS if task in wanted)


def _find(name: str) -> tuple[Benchmark, Task]:
    try:
        return _BY_NAME[name]
    except KeyError:
        raise UsageError(
            f"there is no task {name!r}", where="tasks", fix=f"Tasks: {', '.join(TASKS)}."
        ) from None


__all__ = ["BENCHMARKS", "TASKS", "Benchmark", "Task", "benchmark_of", "chosen_tasks", "get_task"]
