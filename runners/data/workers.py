"""Worker processes that share a list of tasks: plain programs, fed over pipes.

Not multiprocessing: its children import the parent's main module again, which for a training rank
means torch, and forking a process that holds threads or a GPU is unsafe. A worker here imports one
function's module and nothing else, and ends by itself when its parent dies, because its input ends.

The program is ``python -m runners.data.workers MODULE:FUNCTION``. FUNCTION gets the setup and gives
back a callable that turns one task into one result.
"""

import importlib
import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from runners.errors import JobFailedError, MftError

_LENGTH = struct.Struct("<Q")
_AHEAD = 3
"""Tasks a worker may be ahead of the consumer: bounds memory when one task is slow."""


def available_cores(root: Path = Path("/")) -> int:
    """Cores this process may use, by affinity and by the container's share of time.

    ``root`` is where ``proc`` and ``sys`` are found.
    """
    from runners.hardware.host import detect_cpus  # not for the workers, which count no cores

    return detect_cpus(root).usable


def map_ordered(
    function: str, setup: object, tasks: Sequence[Any], workers: int
) -> Iterator[tuple[int, Any]]:
    """Yield ``(index, result)`` for each task, in order, computed by ``workers`` processes.

    ``function`` is "module:function". One worker works in this process. What a worker raises is
    raised here. Raises ``JobFailedError`` when a worker dies.
    """
    if min(workers, len(tasks)) <= 1:
        work = _resolve(function)(setup)
        yield from ((i, work(task)) for i, task in enumerate(tasks))
        return
    with _Crew(function, setup, tasks, min(workers, len(tasks))) as crew:
        yield from crew.results()


class _Crew:
    """Processes, and one thread for each that feeds it and takes its results."""

    def __init__(self, function: str, setup: object, tasks: Sequence[Any], size: int) -> None:
        self._tasks = tasks
        self._next = iter(range(len(tasks)))
        self._lock = threading.Lock()
        self._room = threading.Semaphore(size * _AHEAD)
        self._done: queue.Queue[tuple[int, Any]] = queue.Queue()
        self._closing = False
        self._processes = [_start(function) for _ in range(size)]
        for process in self._processes:
            threading.Thread(target=self._serve, args=(process, setup), daemon=True).start()

    def __enter__(self) -> "_Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def results(self) -> Iterator[tuple[int, Any]]:
        early: dict[int, Any] = {}
        for wanted in range(len(self._tasks)):
            while wanted not in early:
                index, result = self._done.get()
                if isinstance(result, BaseException):
                    raise result
                early[index] = result
            yield wanted, early.pop(wanted)
            self._room.release()

    def _serve(self, process: "subprocess.Popen[bytes]", setup: object) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        index = -1
        try:
            _send(process.stdin, setup)
            while (index := self._take()) >= 0:
                _send(process.stdin, self._tasks[index])
                self._done.put((index, _receive(process.stdout)))
        except (OSError, EOFError, ValueError):
            if not self._closing:
                self._done.put((index, _death(process)))

    def _take(self) -> int:
        # Room is taken before the number, so the lowest unfinished task always has some.
        self._room.acquire()
        with self._lock:
            return next(self._next, -1)


def _start(function: str) -> "subprocess.Popen[bytes]":
    project = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(project), os.environ.get("PYTHONPATH", "")]))
    environ = os.environ | {
        "PYTHONPATH": path,
        "PYTHONHASHSEED": "0",  # content hashes are compared between workers
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        # -P keeps the person's folder, and a tokenize.py in it, off the import path.
        [sys.executable, "-P", "-m", "runners.data.workers", function],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
    )


def _death(process: "subprocess.Popen[bytes]") -> MftError:
    status = process.wait()
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return JobFailedError(
        f"a data worker {how}",
        where=f"process {process.pid}",
        fix="If memory ran out, use fewer workers (num_workers).",
    )


def _send(stream: IO[bytes], value: object) -> None:
    data = pickle.dumps(value, protocol=5)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(head)
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)  # noqa: S301 - both ends of the pipe are this program


def _resolve(function: str) -> Callable[[Any], Callable[[Any], Any]]:
    module, _, name = function.partition(":")
    found: Callable[[Any], Callable[[Any], Any]] = getattr(importlib.import_module(module), name)
    return found


def _work(function: str) -> None:
    """A worker's life: the setup, then a result for each task until the input ends."""
    tasks = sys.stdin.buffer
    # Results own the real stdout; a stray print must not land among them.
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        work = _prepared(function, _receive(tasks))
        while True:
            task = _receive(tasks)
            _send(results, _result_or_error(work, task))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


def _prepared(function: str, setup: Any) -> Callable[[Any], Any]:
    """The callable for tasks; if it cannot be made, one that gives back why for each."""
    try:
        return _resolve(function)(setup)
    except Exception as error:  # noqa: BLE001 - carried to the parent, which raises it
        failure = _carried(error)
        return lambda _task: failure


def _result_or_error(work: Callable[[Any], Any], task: Any) -> Any:
    try:
        return work(task)
    except Exception as error:  # noqa: BLE001 - carried to the parent, which raises it
        return _carried(error)


def _carried(error: Exception) -> Exception:
    """The error as it crosses to the parent: ours as it is, a bug with its traceback."""
    if isinstance(error, MftError):
        return error
    trace = "".join(traceback.format_exception(error))
    return RuntimeError(f"a data worker failed:\n{trace}")


if __name__ == "__main__":
    _work(sys.argv[1])
