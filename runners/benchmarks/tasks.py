"""The registry of tasks. A new benchmark is one file that makes a ``Benchmark``, and one line here.

Whether it is scored, how its rows look, where they can be fetched and how its questions are asked
and cut, it says itself. A digest of its rows in ``official.json`` pins them; without one they are
taken as they are.
"""

from collections.abc import Sequence

from runners.benchmarks.family import Benchmark, Task
from runners.benchmarks.humanevalpack import HUMANEVALPACK
from runners.benchmarks.mbpp import MBPP
from runners.errors import UsageError

BENCHMARKS: tuple[Benchmark, ...] = (HUMANEVALPACK, MBPP)

_BY_NAME = {task.name: (benchmark, task) for benchmark in BENCHMARKS for task in benchmark.tasks}

TASKS: tuple[str, ...] = tuple(
    task.name for benchmark in BENCHMARKS if benchmark.scored for task in benchmark.tasks
)
"""The 13 task names that are scored, in the order that the competition lists them."""


def known_tasks() -> tuple[str, ...]:
    """Every registered task, those that are not scored included."""
    return tuple(_BY_NAME)


def get_task(name: str) -> Task:
    """The task of that name. Raises ``UsageError`` naming the tasks there are."""
    return _find(name)[1]


def benchmark_of(task: str) -> Benchmark:
    """The benchmark that the named task belongs to. Raises ``UsageError`` as ``get_task``."""
    return _find(task)[0]


def chosen_tasks(names: Sequence[str]) -> tuple[str, ...]:
    """The named tasks in registry order, each once; all that are scored when none is named.

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
    return tuple(task for task in known_tasks() if task in wanted)


def _find(name: str) -> tuple[Benchmark, Task]:
    try:
        return _BY_NAME[name]
    except KeyError:
        raise UsageError(
            f"there is no task {name!r}", where="tasks", fix=f"Tasks: {', '.join(known_tasks())}."
        ) from None


__all__ = [
    "BENCHMARKS",
    "TASKS",
    "Benchmark",
    "Task",
    "benchmark_of",
    "chosen_tasks",
    "get_task",
    "known_tasks",
]
