"""Worker processes that share a list of tasks: plain programs, fed over pipes.

Not multiprocessing: its children import the parent's main module again, which for a training rank
means torch, and forking a process that holds threads or a GPU is unsafe. A worker here imports one
function's module and nothing else, and ends by itself when its parent dies, because its input ends.

The program is ``python -m runners.data.workers MODULE:FUNCTION``. FUNCTION gets the setup and gives
back a callable that turns one task into results: one, or many where one would be too large.
"""

import importlib
import os
import pickle
import struct
import subprocess
import sys
import threading
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from runners.errors import JobFailedError, MftError

Work = Callable[[Any], Iterable[Any]]
"""From a task to its results."""

_LENGTH = struct.Struct("<Q")
_AHEAD = 3
"""Tasks a worker may be ahead of the consumer: bounds memory when one task is slow."""

_RESULTS_AHEAD = 8
"""Results of one task that may wait for the consumer: bounds memory when a task has many."""


def available_cores(root: Path = Path("/")) -> int:
    """Cores this process may use, by affinity and by the container's share of time.

    ``root`` is where ``proc`` and ``sys`` are found.
    """
    from runners.hardware.host import detect_cpus  # not for the workers, which count no cores

    return detect_cpus(root).usable


def map_ordered(
    function: str, setup: object, tasks: Sequence[Any], workers: int
) -> Iterator[tuple[int, Any]]:
    """Yield ``(index, result)`` for each result of each task, in order, by ``workers`` processes.

    ``function`` is "module:function". One worker works in this process. What a worker raises is
    raised here. Raises ``JobFailedError`` when a worker dies.
    """
    if min(workers, len(tasks)) <= 1:
        work = _resolve(function)(setup)
        yield from ((i, result) for i, task in enumerate(tasks) for result in work(task))
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
        self._changed = threading.Condition()
        self._waiting: dict[int, deque[tuple[bool, Any]]] = defaultdict(deque)
        self._death: MftError | None = None
        self._closing = False
        self._processes = [_start(function) for _ in range(size)]
        for process in self._processes:
            threading.Thread(target=self._serve, args=(process, setup), daemon=True).start()

    def __enter__(self) -> "_Crew":
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    # Closing sends what is left in the buffer, and nobody reads it any more.
                    with suppress(BrokenPipeError):
                        stream.close()

    def results(self) -> Iterator[tuple[int, Any]]:
        for wanted in range(len(self._tasks)):
            while (answer := self._get(wanted))[0]:
                yield wanted, answer[1]
            del self._waiting[wanted]
            self._room.release()

    def _get(self, wanted: int) -> tuple[bool, Any]:
        with self._changed:
            self._changed.wait_for(lambda: self._death or self._waiting[wanted])
            if self._death is not None:
                raise self._death
            answer = self._waiting[wanted].popleft()
            self._changed.notify_all()
        if isinstance(answer[1], BaseException):
            raise answer[1]
        return answer

    def _put(self, index: int, answer: tuple[bool, Any]) -> None:
        """Waits while its task has much waiting already, and its worker waits for the pipe."""
        with self._changed:
            waiting = self._waiting[index]
            self._changed.wait_for(lambda: self._closing or len(waiting) < _RESULTS_AHEAD)
            waiting.append(answer)
            self._changed.notify_all()

    def _serve(self, process: "subprocess.Popen[bytes]", setup: object) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, setup)
            while (index := self._take()) >= 0:
                _send(process.stdin, self._tasks[index])
                more = True
                while more:
                    answer = _receive(process.stdout)
                    self._put(index, answer)
                    more = answer[0]
        except (OSError, EOFError, ValueError):
            with self._changed:
                if not self._closing:
                    self._death = _death(process)
                self._changed.notify_all()

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


def _resolve(function: str) -> Callable[[Any], Callable[[Any], Iterable[Any]]]:
    module, _, name = function.partition(":")
    found: Callable[[Any], Callable[[Any], Iterable[Any]]] = getattr(
        importlib.import_module(module), name
    )
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
            for answer in _answers(work, _receive(tasks)):
                _send(results, answer)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


def _prepared(function: str, setup: Any) -> Work:
    """The callable for tasks; if it cannot be made, one that gives back why for each."""
    try:
        return _resolve(function)(setup)
    except Exception as error:  # noqa: BLE001 - carried to the parent, which raises it
        failure = _carried(error)
        return lambda _task: [failure]


def _answers(work: Work, task: Any) -> Iterator[tuple[bool, Any]]:
    """Each result with True, then False; what is raised is the last result."""
    try:
        for result in work(task):
            yield True, result
    except Exception as error:  # noqa: BLE001 - carried to the parent, which raises it
        yield True, _carried(error)
    yield False, None


def _carried(error: Exception) -> Exception:
    """The error as it crosses to the parent: ours as it is, a bug with its traceback."""
    if isinstance(error, MftError):
        return error
    trace = "".join(traceback.format_exception(error))
    return RuntimeError(f"a data worker failed:\n{trace}")


if __name__ == "__main__":
    _work(sys.argv[1])
