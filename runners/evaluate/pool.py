"""Judges many generations on all cores, and makes sure of every time-out.

Workers are threads, because the work is in other processes. A time-out, or a fault of the sandbox,
is only believed when the program is run once more alone, with every other worker idle.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from runners.evaluate.items import Item, TaskItems
from runners.evaluate.judge import Judge
from runners.evaluate.languages.base import Judgement
from runners.evaluate.sandbox.base import SandboxError
from runners.evaluate.sandbox.halt import Halt, Halted
from runners.hardware.host import detect_cpus, detect_memory

_POLL_SECONDS = 0.2
_TYPICAL_BYTES = 1 << 30
_FAULTS_THAT_STOP = 20
_CORES_OF_A_WORKER = 8
_DOUBTFUL = {"timeout", "sandbox_error"}


@dataclass(frozen=True)
class Unit:
    """What a worker takes at once: generations of one task."""

    task: TaskItems
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Judged:
    """One generation and what became of it."""

    task: TaskItems
    item: Item
    judgement: Judgement


def worker_count(asked: int | None, *, cores: int | None = None, free: int | None = None) -> int:
    """Workers: those asked for, else one a core this process may use, fewer where memory is short.

    The container's share counts, where there is one. A gibibyte a worker is what compilers take;
    programs have their own limit.
    """
    if asked is not None:
        return asked
    usable = cores if cores is not None else detect_cpus().usable
    available = free if free is not None else detect_memory().available
    return max(1, min(usable, int(0.8 * available) // _TYPICAL_BYTES))


def units(tasks: Sequence[TaskItems], batches: dict[str, int], workers: int) -> list[Unit]:
    """Cut tasks into units; a language's tasks follow each other, so that its servers stay warm.

    ``batches`` says how many programs of a language are best taken together; no unit is so large
    that a worker would be left without one.
    """
    cut: list[Unit] = []
    order = list(dict.fromkeys(task.task.language for task in tasks))
    for task in sorted(tasks, key=lambda t: order.index(t.task.language)):
        fair = -(-len(task.items) // workers)
        size = max(1, min(batches.get(task.task.language, 1), fair))
        starts = range(0, len(task.items), size)
        cut += [Unit(task, task.items[start : start + size]) for start in starts]
    return cut


def judge_all(
    work: Sequence[Unit],
    make_judge: Callable[[], Judge],
    *,
    workers: int,
    halt: Halt,
    stopping: Callable[[], bool],
) -> Iterator[Judged]:
    """Yield each generation's judgement as it comes, in no particular order.

    Ends early, with what was in progress thrown away, when ``stopping()`` turns true. An error in
    a worker is raised here, and ``SandboxError`` when the sandbox does nothing but fail.
    """
    todo: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[Judged | BaseException | None] = queue.SimpleQueue()
    for unit in work:
        todo.put(unit)
    for _ in range(workers):
        todo.put(None)
    threads = [
        threading.Thread(target=_work, args=(n, todo, done, make_judge, halt), name=f"judge-{n}")
        for n in range(workers)
    ]
    for thread in threads:
        thread.start()
    doubtful: list[Judged] = []
    faults = 0
    try:
        for judged in _results(done, workers, halt, stopping):
            faults = faults + 1 if judged.judgement.status == "sandbox_error" else 0
            if faults >= _FAULTS_THAT_STOP:
                raise SandboxError(
                    f"the sandbox failed {faults} times in a row: {judged.judgement.detail}",
                    fix="Run mft-tui doctor; what was judged so far is kept.",
                )
            if judged.judgement.status in _DOUBTFUL:
                doubtful.append(judged)
            else:
                yield judged
    finally:
        if any(thread.is_alive() for thread in threads):
            halt.set()
        for thread in threads:
            thread.join()
    if not halt.is_set:
        yield from _once_more(doubtful, make_judge, halt, stopping)


def narrow(worker: int, cores: Sequence[int]) -> set[int]:
    """The cores of a worker's programs, out of all ``cores``: a few of them, beside each other.

    Virtual machines, compilers and Go's runtime start threads by the number of cores that they see.
    On a large machine they would start more than a program may, and a verdict would depend on the
    machine.
    """
    first = worker * _CORES_OF_A_WORKER // 2
    return {cores[(first + n) % len(cores)] for n in range(_CORES_OF_A_WORKER)}


def _work(
    number: int,
    todo: "queue.SimpleQueue[Unit | None]",
    done: "queue.SimpleQueue[Judged | BaseException | None]",
    make_judge: Callable[[], Judge],
    halt: Halt,
) -> None:
    judge: Judge | None = None
    # Of this thread, and so of the processes that it starts.
    os.sched_setaffinity(0, narrow(number, sorted(os.sched_getaffinity(0))))
    try:
        judge = make_judge()
        while (unit := todo.get()) is not None and not halt.is_set:
            task = unit.task

            def report(item: Item, judgement: Judgement, task: TaskItems = task) -> None:
                done.put(Judged(task, item, judgement))

            judge.judge(unit.items, task.task.language, task.task.family, report)
    except Halted:
        pass
    except BaseException as error:  # noqa: BLE001 - raised again in the main thread
        done.put(error)
    finally:
        if judge is not None:
            judge.close()
        done.put(None)


def _results(
    done: "queue.SimpleQueue[Judged | BaseException | None]",
    workers: int,
    halt: Halt,
    stopping: Callable[[], bool],
) -> Iterator[Judged]:
    alive = workers
    while alive:
        if stopping() and not halt.is_set:
            halt.set()
        try:
            result = done.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        if result is None:
            alive -= 1
        elif isinstance(result, Judged):
            yield result
        else:
            halt.set()
            raise result


def _once_more(
    doubtful: Sequence[Judged],
    make_judge: Callable[[], Judge],
    halt: Halt,
    stopping: Callable[[], bool],
) -> Iterator[Judged]:
    """Run the doubtful ones again, one at a time, nothing of ours beside them."""
    if not doubtful:
        return
    done: queue.SimpleQueue[Judged | BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        os.sched_setaffinity(0, narrow(0, sorted(os.sched_getaffinity(0))))
        judge = make_judge()
        try:
            for one in doubtful:
                task = one.task.task
                again = judge.judge_alone(one.item, task.language, task.family)
                done.put(Judged(one.task, one.item, again))
        except Halted:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            done.put(error)
        finally:
            judge.close()
            done.put(None)

    thread = threading.Thread(target=run, name="judge-alone")
    thread.start()
    try:
        yield from _results(done, 1, halt, stopping)
    finally:
        if thread.is_alive():
            halt.set()
        thread.join()
