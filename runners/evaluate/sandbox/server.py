"""A long-lived process behind two pipes, spoken to in frames of four length bytes and content."""

import contextlib
import os
import selectors
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runners.evaluate.sandbox.base import Limits, SandboxError
from runners.evaluate.sandbox.halt import Halt, Halted
from runners.evaluate.sandbox.process import (
    CROWD_SECONDS,
    WATCH_SECONDS,
    Usage,
    first_in_line,
)

_LARGEST_ANSWER = 256 << 20
_CHUNK = 1 << 16


class PipeServer:
    """Starts ``argv`` and exchanges frames with it; one question at a time.

    ``watch`` tells what the whole tree uses, and ``crowd`` whether it has too many threads; what it
    may use of ``limits`` is looked at while an answer is awaited, where no control group enforces
    it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        limits: Limits,
        pass_fds: Sequence[int] = (),
        *,
        environment: dict[str, str] | None = None,
        halt: Halt | None = None,
        watch: Callable[[int], Usage | None] | None = None,
        crowd: Callable[[int], bool] | None = None,
        end: Callable[[subprocess.Popen[bytes]], None] | None = None,
        after: Callable[[], None] | None = None,
    ) -> None:
        self._after = after
        self._end = end
        self._halt = halt
        self._watch = watch
        self._crowd = crowd
        self._limits = limits
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=tuple(pass_fds),
            env={} if environment is None else environment,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        # A server that does not read must not hold us: every wait here has an end.
        os.set_blocking(self._process.stdin.fileno(), False)

    def ask(
        self, request: bytes, *, wall_seconds: float, cpu_seconds: float | None = None
    ) -> bytes:
        """Send one frame, return the answering one. Raises ``SandboxError`` if none comes."""
        question = _Question(time.monotonic() + wall_seconds, cpu_seconds)
        question.look_at = time.monotonic() + WATCH_SECONDS
        try:
            with first_in_line() if self._crowd else contextlib.nullcontext():
                return self._answer(request, question)
        except OSError as error:
            raise SandboxError(f"a server in the sandbox died ({error.strerror})") from error

    def _answer(self, request: bytes, question: "_Question") -> bytes:
        self._write(struct.pack(">I", len(request)) + request, question)
        (size,) = struct.unpack(">I", self._read(4, question))
        if size > _LARGEST_ANSWER:
            raise SandboxError("a server in the sandbox gave an impossible answer")
        return self._read(size, question)

    def _write(self, data: bytes, question: "_Question") -> None:
        assert self._process.stdin is not None
        fd = self._process.stdin.fileno()
        view = memoryview(data)
        with self._selector(fd, selectors.EVENT_WRITE) as selector:
            while view:
                self._await(selector, fd, question)
                view = view[os.write(fd, view[:_CHUNK]) :]

    def _read(self, size: int, question: "_Question") -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        data = bytearray()
        with self._selector(fd, selectors.EVENT_READ) as selector:
            while len(data) < size:
                self._await(selector, fd, question)
                chunk = os.read(fd, min(_CHUNK, size - len(data)))
                if not chunk:
                    raise SandboxError("a server in the sandbox died")
                data += chunk
        return bytes(data)

    def _selector(self, fd: int, event: int) -> selectors.DefaultSelector:
        selector = selectors.DefaultSelector()
        selector.register(fd, event)
        if self._halt is not None:
            selector.register(self._halt.fd, selectors.EVENT_READ)
        return selector

    def _await(self, selector: selectors.DefaultSelector, fd: int, question: "_Question") -> None:
        """Return when ``fd`` is ready. Raises ``SandboxError`` when a limit is broken first."""
        while True:
            left = question.deadline - time.monotonic()
            if left <= 0:
                raise SandboxError("a server in the sandbox did not answer in time")
            pause = CROWD_SECONDS if self._crowd else WATCH_SECONDS if self._watch else left
            ready = {key.fd for key, _ in selector.select(min(left, pause))}
            if self._halt is not None and self._halt.fd in ready:
                raise Halted
            if fd in ready:
                return
            self._look(question)

    def _look(self, question: "_Question") -> None:
        if self._crowd is not None and self._crowd(self._process.pid):
            self._kill()  # now: by the time that we are closed there would be many more
            raise SandboxError("a server in the sandbox started too many processes")
        now = time.monotonic()
        if self._watch is None or now < question.look_at:
            return
        question.look_at = now + WATCH_SECONDS
        usage = self._watch(self._process.pid)
        if usage is None:
            return
        if question.cpu_before is None:
            # What was used until the first look is forgiven: a quick question is never looked at.
            question.cpu_before = usage.cpu_seconds
        spent = usage.cpu_seconds - question.cpu_before
        if usage.memory_bytes > self._limits.memory_bytes:
            raise SandboxError("a server in the sandbox used too much memory")
        if usage.processes > self._limits.processes:
            raise SandboxError("a server in the sandbox started too many processes")
        if question.cpu_seconds is not None and spent > question.cpu_seconds:
            raise SandboxError("a server in the sandbox used too much CPU time")

    def _kill(self) -> None:
        if self._end is not None:
            self._end(self._process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it, reap it, and clean up after it."""
        self._kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        if self._after is not None:
            self._after()


@dataclass
class _Question:
    """When the answer is late, and how much CPU time the tree may spend on it."""

    deadline: float
    cpu_seconds: float | None
    cpu_before: float | None = None
    look_at: float = 0.0
