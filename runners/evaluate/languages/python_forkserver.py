"""Runs inside the sandbox: forks itself for each program, into namespaces of the fork's own.

Frames of four length bytes on standard input and output. A request holds the limits of the fork
(``_Limits``), a secret of 16 bytes, and the program. The answer is JSON: ``status`` of the program
(minus a signal), what it ``said`` on its answer pipe (the secret's digest after its last line, or
its exception), ``cpu`` seconds, ``memory`` bytes, and whether it ``spoke`` on descriptor 2.

Every fork is process 2 of a fresh process namespace, with its own tmpfs, no network, no
privileges, and the seccomp filter. Process 1 waits for it outside its reach: signals do not get
to the first process of a namespace from inside. When process 1 ends, the kernel ends all others.

A program must not be able to tell a fork from an interpreter of its own: it finds the files,
arguments, descriptors, modules and frames that it finds there.
"""
# ruff: noqa: E402 - what the server needs for itself comes after what every program finds loaded

import sys

import harness  # type: ignore[import-not-found]

_LOADED = frozenset(sys.modules)

import builtins
import ctypes
import json
import os
import re
import resource
import select
import signal
import struct
from pathlib import Path
from typing import NamedTuple

_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000
_NEW_NETWORK = 0x40000000
_CLONE = {"x86_64": 56, "aarch64": 220}
_REMOUNT_PRIVATE, _NOSUID_NODEV = 0x4000 | 0x40000, 2 | 4
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_LAST_CAPABILITY = 63
_FILES = 1 << 18
_PROGRAM = "program.py"
_REPORT = struct.Struct(">idQ?")
# Before Linux 5.14 the limit on processes counted all of a person's, whatever their namespace.
_COUNTS_BY_NAMESPACE = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (5, 14)

_libc = ctypes.CDLL(None, use_errno=True)


class _FilterProgram(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


class _Limits(NamedTuple):
    """CPU seconds (as whole numbers), wall seconds, bytes of each folder, processes."""

    cpu: int
    wall: float
    disk: int
    processes: int


_LIMITS = struct.Struct(">IdQI")


class _Kit(NamedTuple):
    """What every fork is given: the harness's text, as a file, and the seccomp filter."""

    harness: bytes
    filter: bytes


def serve() -> str:
    """Answer requests until standard input ends. Returns in a fork only: the program to run.

    The way back from here clears the frames, so that none holds the request.
    """
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    kit = _Kit(Path("harness.py").read_bytes(), Path("filter.bpf").read_bytes())
    _look_like_a_fresh_interpreter()
    while head := _read(requests, 4):
        found = _answer(_read(requests, struct.unpack(">I", head)[0]), kit)
        if isinstance(found, str):
            return found
        answer = json.dumps(found).encode()
        _write(answers, struct.pack(">I", len(answer)) + answer)
    os._exit(0)


def _look_like_a_fresh_interpreter() -> None:
    """Be what ``python harness.py program.py`` is when it runs the program."""
    for name in set(sys.modules) - _LOADED | {"harness"}:
        del sys.modules[name]
    sys.modules["__main__"] = harness
    harness.__name__, harness.__spec__, harness.__annotations__ = "__main__", None, {}
    harness.__builtins__ = builtins
    sys.argv[:] = ["harness.py", _PROGRAM]
    sys.orig_argv[-1:] = sys.argv


def _answer(request: bytes, kit: _Kit) -> dict[str, object] | str:
    """The answer to a request; in the fork that is to run it, the program."""
    limits = _Limits(*_LIMITS.unpack_from(request))
    secret = request[_LIMITS.size : _LIMITS.size + harness.SECRET_BYTES]
    text = request[_LIMITS.size + harness.SECRET_BYTES :]
    results, results_in = os.pipe()
    said, said_in = os.pipe()
    pid = _libc.syscall(
        _CLONE[os.uname().machine], _NEW_NAMESPACES | _NEW_NETWORK | signal.SIGCHLD, 0, 0, 0, 0
    )
    if pid == 0:
        _first_process(results_in, said_in, limits, kit, secret, text)
        return text.decode("utf-8", "surrogatepass")
    os.close(results_in)
    os.close(said_in)
    if pid < 0:
        os.close(results)
        os.close(said)
        return {"unsupported": os.strerror(ctypes.get_errno())}
    report = _wait(results, limits.wall)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    words = _read(said, harness.KEPT)
    os.close(results)
    os.close(said)
    if report == b"unsupported":
        return {"unsupported": "the namespaces of a fork could not be set up"}
    if report is None:
        return {"status": "timeout", "said": "", "cpu": 0.0, "memory": 0, "spoke": False}
    if len(report) != _REPORT.size:
        return {"status": None, "said": words.hex(), "cpu": 0.0, "memory": 0, "spoke": False}
    status, seconds, memory, spoke = _REPORT.unpack(report)
    return {
        "status": status,
        "said": words.hex(),
        "cpu": seconds,
        "memory": memory,
        "spoke": spoke,
    }


def _wait(results: int, wall: float) -> bytes | None:
    """What process 1 reports: empty when it died, None when it is late."""
    ready, _, _ = select.select([results], [], [], wall)
    return os.read(results, 64) if ready else None


def _first_process(
    results: int, said: int, limits: _Limits, kit: _Kit, secret: bytes, text: bytes
) -> None:
    """Process 1: build the walls, wait for process 2, report its end. Returns in process 2."""
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.setsid()
        try:
            _private_folders(limits.disk)
            _put("harness.py", kit.harness)
            _put(_PROGRAM, text)
            errors = os.open("/tmp", os.O_TMPFILE | os.O_RDWR | os.O_APPEND)  # noqa: S108
            _drop_privileges()
        except OSError:
            os.write(results, b"unsupported")
            os._exit(0)
        pid = os.fork()
    except BaseException:  # noqa: BLE001 - a half-made process 1 must never serve
        os._exit(99)
    if pid == 0:
        try:
            harness.lay_out(said, secret, errors)
            _limit(limits, kit.filter)
            if "numpy.random" in _LOADED:
                harness.numpy.random.seed()
        except BaseException:  # noqa: BLE001 - nothing may run without its walls
            os._exit(98)
        return
    try:
        os.close(said)
        _, raw, usage = os.wait4(pid, 0)
        seconds = usage.ru_utime + usage.ru_stime
        status, spoke = os.waitstatus_to_exitcode(raw), os.fstat(errors).st_size > 0
        os.write(results, _REPORT.pack(status, seconds, usage.ru_maxrss * 1024, spoke))
    finally:
        os._exit(0)


def _private_folders(disk: int) -> None:
    """Own user map, and empty bounded folders over everything that could be written or tells."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text("1000 1000 1")
    Path("/proc/self/gid_map").write_text("1000 1000 1")
    _mount("none", "/", None, _REMOUNT_PRIVATE, None)
    # /dev, with its folder for shared memory, is read-only already.
    for folder in ("/proc", "/tmp", "/work"):  # noqa: S108 - the sandbox's own
        _mount("tmpfs", folder, "tmpfs", _NOSUID_NODEV, f"size={disk},nr_inodes={_FILES},mode=0755")
    os.chdir("/work")


def _put(name: str, content: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT, 0o755)
    _write(fd, content)
    os.close(fd)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind)]
    if _libc.mount(*encoded, ctypes.c_ulong(flags), None if data is None else data.encode()):
        raise OSError(ctypes.get_errno(), f"cannot mount {target}")


def _drop_privileges() -> None:
    for capability in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("=Ii", 0x20080522, 0)
    if _libc.capset(header, bytes(24)):
        raise OSError(ctypes.get_errno(), "cannot drop capabilities")


def _limit(limits: _Limits, code: bytes) -> None:
    # The soft limit is reached first: its signal tells why.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu, limits.cpu + 2))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.disk, limits.disk))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _COUNTS_BY_NAMESPACE:
        resource.setrlimit(resource.RLIMIT_NPROC, (limits.processes, limits.processes))
    program = _FilterProgram(len(code) // 8, ctypes.cast(ctypes.c_char_p(code), ctypes.c_void_p))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot renounce privileges")
    if _libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "cannot set the filter")


def _read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := os.read(fd, size - len(data))):
        data += chunk
    return data


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    harness.finish(serve())
