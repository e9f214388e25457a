"""One list of behaviours that every sandbox must show; each is tried for real.

A new provider is right when the list passes. Each check runs a small program that attempts
something and prints what it found; the walls are judged from outside.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from runners.config.evaluate import EvaluateConfig
from runners.errors import MftError
from runners.evaluate.languages.python import Python
from runners.evaluate.sandbox.base import MIB, Limits, Outcome, Program, Sandbox
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


@dataclass(frozen=True)
class Behaviour:
    """A program to try and how its outcome shows that the wall stands."""

    name: str
    code: str
    holds: Callable[[Outcome], bool]
    limits: Limits = field(default=_LIMITS)


def _says(word: bytes) -> Callable[[Outcome], bool]:
    return lambda outcome: outcome.ok and outcome.stdout.strip() == word


def _ended(*how: str) -> Callable[[Outcome], bool]:
    return lambda outcome: outcome.ended in how or outcome.exit_code not in {0, None}


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
        _says(b"denied"),
    ),
    Behaviour("/etc/shadow is not there", _attempt("open('/etc/shadow')"), _says(b"denied")),
    Behaviour(
        "nothing can be written outside /work and /tmp",
        _attempt("open('/usr/mft', 'w')") + _attempt("open('/mft', 'w')"),
        lambda outcome: outcome.stdout.split() == [b"denied", b"denied"],
    ),
    Behaviour(
        "the kernel's settings cannot be changed",
        _attempt("open('/proc/sys/vm/swappiness', 'r+')")
        + _attempt("open('/proc/sysrq-trigger', 'a')"),
        lambda outcome: outcome.stdout.split() == [b"denied", b"denied"],
    ),
    Behaviour(
        "no other processes are seen",
        "import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]) < 8)",
        _says(b"True"),
    ),
    Behaviour(
        "no network by IPv4",
        _attempt("socket.create_connection(('1.1.1.1', 53), timeout=3)"),
        _says(b"denied"),
    ),
    Behaviour(
        "no network by IPv6",
        _attempt("socket.create_connection(('2606:4700:4700::1111', 53), timeout=3)"),
        _says(b"denied"),
    ),
    Behaviour(
        "no environment of the person",
        "import os\nprint(sorted(set(os.environ) & {'USER', 'SSH_AUTH_SOCK', 'HF_TOKEN'}))",
        _says(b"[]"),
    ),
    Behaviour(
        "an endless loop is ended",
        "while True: pass",
        _ended("timeout"),
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
        _ended("memory_limit"),
    ),
    Behaviour(
        "processes are bounded",
        "import os, time\nfor _ in range(1000):\n    if os.fork() == 0: time.sleep(30)",
        _ended("memory_limit"),
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
        _ended("memory_limit"),
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


def run(make: Callable[[], Sandbox] | None = None) -> list[Check]:
    """Try every behaviour on a provider, bubblewrap by default; a few seconds."""
    try:
        sandbox = (make or make_sandbox(EvaluateConfig.model_construct(sandbox="bwrap")))()
    except MftError as error:
        return [Check("the sandbox can be made", False, error.what, error.fix or "")]
    try:
        return [_try(sandbox, behaviour) for behaviour in BEHAVIOURS]
    finally:
        sandbox.close()


def _try(sandbox: Sandbox, behaviour: Behaviour) -> Check:
    toolchain = Python().discover()
    try:
        outcome = sandbox.run(
            Program(
                argv=[toolchain.programs["python"], "-c", behaviour.code],
                mounts=toolchain.mounts,
                environment=toolchain.environment,
            ),
            behaviour.limits,
        )
    except MftError as error:
        return Check(behaviour.name, False, error.what, error.fix or "")
    seen = outcome.ended if outcome.ended != "exited" else f"status {outcome.exit_code}"
    words = outcome.stdout[:80].decode("utf-8", "replace").strip()
    ok = behaviour.holds(outcome)
    return Check(behaviour.name, ok, f"{seen} {words}".strip(), "" if ok else _FIX)
