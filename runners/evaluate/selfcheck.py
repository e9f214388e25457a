"""One list of behaviours that every sandbox must show; each is tried for real.

A new provider is right when the list passes. Each check runs a small program that attempts
something and prints what it found; the walls are judged from outside. What could be reached is
really there: listeners on this machine's own addresses, a process with a secret in its environment.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runners.config.evaluate import EvaluateConfig
from runners.errors import MftError
from runners.evaluate.languages.base import Toolchain
from runners.evaluate.languages.python import Python
from runners.evaluate.sandbox.base import MIB, Limits, Outcome, Program, Sandbox
from runners.evaluate.sandbox.bwrap import BwrapSandbox
from runners.evaluate.sandbox.choose import make_sandbox


@dataclass(frozen=True)
class Check:
    """A behaviour: whether it is there, what was seen, and what to do if it is not."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


_LIMITS = Limits(5.0, 20.0, memory_bytes=256 * MIB, processes=64, disk_bytes=16 * MIB)
_FIX = "Do not evaluate untrusted code here; use --sandbox docker, or report this with its detail."
_GONE_SECONDS = 5.0


@dataclass(frozen=True)
class Behaviour:
    """A program to try and how its outcome shows that the wall stands.

    In ``code``, words like ``PORT4`` stand for what of this machine is to be reached (``_Prey``).
    """

    name: str
    code: str
    holds: Callable[[Outcome], bool]
    limits: Limits = field(default=_LIMITS)


@dataclass(frozen=True)
class _Prey:
    port4: int
    port6: int
    socket: str
    abstract: str
    secret: str


def _says(word: bytes) -> Callable[[Outcome], bool]:
    return lambda outcome: outcome.ok and outcome.stdout.split() == [word]


def _denied(times: int) -> Callable[[Outcome], bool]:
    return lambda outcome: outcome.ok and outcome.stdout.split() == [b"denied"] * times


def _ended(how: str, *, statuses: tuple[int, ...] = (), words: bytes = b"") -> Callable[..., bool]:
    """Ended from outside, by a signal of the kernel's, or by the error that the kernel gave it."""

    def holds(outcome: Outcome) -> bool:
        code = outcome.exit_code
        by_signal = code is not None and (code in statuses or code - 128 in map(abs, statuses))
        by_error = code == 1 and words != b"" and words in outcome.stderr
        return outcome.ended == how or by_signal or by_error

    return holds


_KILLED, _CPU, _FILE_SIZE = -9, -24, -25


def _attempt(statement: str) -> str:
    """A program that says "reached" if the statement works and "denied" if it raises OSError."""
    return (
        f"import os, socket\ntry:\n    {statement}\n    print('reached')\n"
        "except OSError:\n    print('denied')\n"
    )


BEHAVIOURS = (
    Behaviour("runs a program and gives its status", "print('here')", _says(b"here")),
    Behaviour(
        "the home folder is not there",
        _attempt("assert os.listdir('/root') or os.listdir('/home')"),
        _denied(1),
    ),
    Behaviour("/etc/shadow is not there", _attempt("open('/etc/shadow')"), _denied(1)),
    Behaviour(
        "nothing can be written outside /work and /tmp",
        _attempt("open('/usr/mft', 'w')") + _attempt("open('/mft', 'w')"),
        _denied(2),
    ),
    Behaviour(
        "the kernel's settings cannot be changed",
        _attempt("open('/proc/sys/vm/swappiness', 'r+')")
        + _attempt("open('/proc/sysrq-trigger', 'a')"),
        _denied(2),
    ),
    Behaviour(
        "no other processes are seen",
        "import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]) < 8)",
        _says(b"True"),
    ),
    Behaviour(
        "no environment of other processes",
        """
import glob
found = "denied"
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        found = "reached" if b"SECRET" in open(path, "rb").read() else found
    except OSError:
        pass
print(found)
""",
        _denied(1),
    ),
    Behaviour(
        "no network by IPv4",
        _attempt("socket.create_connection(('127.0.0.1', PORT4), timeout=3)"),
        _denied(1),
    ),
    Behaviour(
        "no network by IPv6",
        _attempt("socket.create_connection(('::1', PORT6), timeout=3)"),
        _denied(1),
    ),
    Behaviour(
        "no unix sockets of this machine",
        _attempt("socket.socket(socket.AF_UNIX).connect('SOCKET')")
        + _attempt("socket.socket(socket.AF_UNIX).connect('\\0ABSTRACT')"),
        _denied(2),
    ),
    Behaviour(
        "no environment of the person",
        "import os\nprint(sorted(set(os.environ) & {'USER', 'SSH_AUTH_SOCK', 'HF_TOKEN'}))",
        _says(b"[]"),
    ),
    Behaviour(
        "daemons end with the program",
        """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
os.wait()
print("here")
""",
        _says(b"here"),
    ),
    Behaviour(
        "what starts a program cannot be killed by it",
        """
import os, signal
# Without a namespace of its own it would really kill them, and show what it was to show by that.
processes = (1, os.getppid(), -1) if os.getpid() < 100 else ()
print("few" if processes else "reached")
for process in processes:
    try:
        os.kill(process, signal.SIGKILL)
    except OSError:
        pass
""",
        lambda outcome: outcome.ended == "exited" and b"reached" not in outcome.stdout,
    ),
    Behaviour(
        "an endless loop is ended",
        "while True: pass",
        _ended("timeout", statuses=(_CPU, _KILLED)),
        Limits(1.0, 20.0, memory_bytes=256 * MIB),
    ),
    Behaviour(
        "sleeping is ended",
        "import time; time.sleep(60)",
        _ended("timeout"),
        Limits(1.0, 1.5, memory_bytes=256 * MIB),
    ),
    Behaviour(
        "memory is bounded",
        "x = []\nwhile True: x.append(bytearray(8 << 20))",
        _ended("memory_limit", statuses=(_KILLED,), words=b"MemoryError"),
    ),
    Behaviour(
        "processes are bounded",
        "import os, time\nfor _ in range(1000):\n    if os.fork() == 0: time.sleep(30)",
        _ended("memory_limit", words=b"BlockingIOError"),
    ),
    Behaviour(
        "output is bounded",
        "import sys\nwhile True: sys.stdout.write('x' * 65536)",
        _ended("output_limit"),
        Limits(20.0, 40.0, memory_bytes=256 * MIB, output_bytes=4 * MIB),
    ),
    Behaviour(
        "disk is bounded",
        "f = open('/work/big', 'wb')\nwhile True: f.write(bytes(1 << 20))",
        _ended("memory_limit", statuses=(_FILE_SIZE,), words=b"OSError: [Errno 2"),
    ),
    Behaviour(
        "no namespaces of its own",
        "import ctypes\nprint(ctypes.CDLL(None).unshare(0x10000000))",
        _says(b"-1"),
    ),
    Behaviour(
        "no tracing of others",
        "import ctypes\nprint(ctypes.CDLL(None).ptrace(16, 1, 0, 0))",
        _says(b"-1"),
    ),
)


def run(
    make: Callable[[], Sandbox] | None = None, toolchain: Toolchain | None = None
) -> list[Check]:
    """Try every behaviour on a provider, bubblewrap by default; some seconds.

    ``toolchain`` is the Python that the provider has, this machine's by default.
    """
    try:
        sandbox = (make or make_sandbox(EvaluateConfig.model_construct(sandbox="bwrap")))()
    except MftError as error:
        return [Check("the sandbox can be made", False, error.what, error.fix or "")]
    python = toolchain or Python().discover()
    found = []
    try:
        if isinstance(sandbox, BwrapSandbox):
            by = f"memory and processes are counted by {sandbox.limits_by}"
            found.append(Check("limits", True, by))
        with _laid_out() as prey:
            found += [_try(sandbox, python, behaviour, prey) for behaviour in BEHAVIOURS]
    finally:
        sandbox.close()
    return found


@contextlib.contextmanager
def _laid_out() -> Iterator[_Prey]:
    """Things on this machine that a program without walls would reach."""
    folder, secret = tempfile.mkdtemp(prefix="mft-check-"), secrets.token_hex(16)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        four = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        try:
            six = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        except OSError:  # a machine without IPv6: nothing to reach by it
            six = four
        named, abstract = f"{folder}/socket", f"mft-check-{secret}"
        for address in (named, f"\0{abstract}"):
            unix = stack.enter_context(socket.socket(socket.AF_UNIX))
            unix.bind(address)
            unix.listen()
        other = subprocess.Popen(["sleep", "600"], env={**os.environ, "MFT_CHECK": secret})
        stack.callback(other.wait)
        stack.callback(other.kill)
        yield _Prey(four.getsockname()[1], six.getsockname()[1], named, abstract, secret)


def _try(sandbox: Sandbox, python: Toolchain, behaviour: Behaviour, prey: _Prey) -> Check:
    code, mark = behaviour.code, f"mft-check-{secrets.token_hex(8)}"
    for name, value in vars(prey).items():
        code = code.replace(name.upper(), str(value))
    try:
        outcome = sandbox.run(
            Program(
                argv=[python.programs["python"], "-c", code],
                mounts=python.mounts,
                environment={**python.environment, "MFT_CHECK_MARK": mark},
            ),
            behaviour.limits,
        )
    except MftError as error:
        return Check(behaviour.name, False, error.what, error.fix or "")
    seen = outcome.ended if outcome.ended != "exited" else f"status {outcome.exit_code}"
    words = outcome.stdout[:80].decode("utf-8", "replace").strip()
    if left := _left_behind(mark):
        return Check(behaviour.name, False, f"{left} processes of it were left behind", _FIX)
    ok = behaviour.holds(outcome)
    return Check(behaviour.name, ok, f"{seen} {words}".strip(), "" if ok else _FIX)


def _left_behind(mark: str) -> int:
    """How many processes of the program there still are, after a moment to die in."""
    deadline = time.monotonic() + _GONE_SECONDS
    while (left := _processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _processes_with(mark: str) -> int:
    found = 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # gone, or not ours to look at
            found += mark.encode() in path.read_bytes()
    return found
