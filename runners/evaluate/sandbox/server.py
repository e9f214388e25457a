"""A long-lived process behind two pipes, spoken to in frames of four length bytes and content."""

import contextlib
import os
import selectors
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Sequence

from runners.evaluate.sandbox.base import SandboxError
from runners.evaluate.sandbox.halt import Halt, Halted

_LARGEST_ANSWER = 256 << 20


class PipeServer:
    """Starts ``argv`` and exchanges frames with it; one question at a time."""

    def __init__(
        self,
        argv: Sequence[str],
        pass_fds: Sequence[int] = (),
        *,
        environment: dict[str, str] | None = None,
        halt: Halt | None = None,
        after: Callable[[], None] | None = None,
    ) -> None:
        self._after = after
        self._halt = halt
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=tuple(pass_fds),
            env={} if environment is None else environment,
            start_new_session=True,
        )

    def ask(self, request: bytes, *, wall_seconds: float) -> bytes:
        """Send one frame, return the answering one. Raises ``SandboxError`` if none comes."""
        assert self._process.stdin is not None
        deadline = time.monotonic() + wall_seconds
        try:
            self._process.stdin.write(struct.pack(">I", len(request)) + request)
            self._process.stdin.flush()
            (size,) = struct.unpack(">I", self._read(4, deadline))
            if size > _LARGEST_ANSWER:
                raise SandboxError("a server in the sandbox gave an impossible answer")
            return self._read(size, deadline)
        except OSError as error:
            raise SandboxError(f"a server in the sandbox died ({error.strerror})") from error

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        data = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            if self._halt is not None:
                selector.register(self._halt.fd, selectors.EVENT_READ)
            while len(data) < size:
                ready = {key.fd for key, _ in selector.select(deadline - time.monotonic())}
                if self._halt is not None and self._halt.fd in ready:
                    raise Halted
                if fd not in ready:
                    raise SandboxError("a server in the sandbox did not answer in time")
                chunk = os.read(fd, size - len(data))
                if not chunk:
                    raise SandboxError("a server in the sandbox died")
                data += chunk
        return bytes(data)

    def close(self) -> None:
        """Kill it, reap it, and clean up after it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        if self._after is not None:
            self._after()
