"""Runs inside the sandbox: forks itself for each program, into namespaces of the fork's own.

Frames of four length bytes on standard input and output. A request holds the CPU limit (u32
seconds), the wall limit (f64), the size of its folders (u64), a token of 16 bytes, and the
program. The answer is JSON: ``status`` of the program (minus a signal), what it ``said`` on its
answer pipe (the token after its last line, or its exception), ``cpu`` seconds, ``memory`` bytes.

Every fork is process 2 of a fresh process namespace, with its own tmpfs, no network, no
privileges, and the seccomp filter. Process 1 waits for it outside its reach: signals do not get
to the first process of a namespace from inside. When process 1 ends, the kernel ends all others.
"""

import ctypes
import importlib
import json
import os
import random
import resource
import select
import signal
import struct
from pathlib import Path

import numpy as np
import python_harness as harness  # type: ignore[import-not-found]

# What most programs import, loaded once for all of them.
for _name in (
    *("collections", "copy", "datetime", "functools", "hashlib", "heapq", "itertools", "math"),
    *("re", "statistics", "string", "typing"),
):
    importlib.import_module(_name)

_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000
_NEW_NETWORK = 0x40000000
_CLONE = {"x86_64": 56, "aarch64": 220}
_REMOUNT_PRIVATE, _NOSUID_NODEV = 0x4000 | 0x40000, 2 | 4
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_LAST_CAPABILITY = 63
_ANSWERS_FD = 3

_libc = ctypes.CDLL(None, use_errno=True)


class _FilterProgram(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def serve() -> None:
    """Answer requests until standard input ends."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    code = Path("filter.bpf").read_bytes()
    while head := _read(requests, 4):
        request = _read(requests, struct.unpack(">I", head)[0])
        answer = json.dumps(_answer(request, code)).encode()
        _write(answers, struct.pack(">I", len(answer)) + answer)


def _answer(request: bytes, code: bytes) -> dict[str, object]:
    cpu, wall, disk = struct.unpack_from(">IdQ", request)
    at = struct.calcsize(">IdQ")
    token, text = request[at : at + 16], request[at + 16 :].decode("utf-8", "surrogatepass")
    results, results_in = os.pipe()
    said, said_in = os.pipe()
    pid = _libc.syscall(
        _CLONE[os.uname().machine], _NEW_NAMESPACES | _NEW_NETWORK | signal.SIGCHLD, 0, 0, 0, 0
    )
    if pid == 0:
        try:
            _first_process(results_in, said_in, cpu, disk, code, token, text)
        finally:
            os._exit(99)
    os.close(results_in)
    os.close(said_in)
    if pid < 0:
        os.close(results)
        os.close(said)
        return {"unsupported": os.strerror(ctypes.get_errno())}
    report = _wait(results, wall)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    words = _read(said, harness.KEPT)
    os.close(results)
    os.close(said)
    if report == b"unsupported":
        return {"unsupported": "the namespaces of a fork could not be set up"}
    if len(report) != struct.calcsize(">idQ"):
        return {"status": None, "said": words.hex(), "cpu": 0.0, "memory": 0}
    status, seconds, memory = struct.unpack(">idQ", report)
    return {"status": status, "said": words.hex(), "cpu": seconds, "memory": memory}


def _wait(results: int, wall: float) -> bytes:
    """What process 1 reports; empty when it does not in time."""
    ready, _, _ = select.select([results], [], [], wall)
    return os.read(results, 64) if ready else b""


def _first_process(
    results: int, said: int, cpu: int, disk: int, code: bytes, token: bytes, text: str
) -> None:
    """Process 1: build the walls, run the program as process 2, report its end."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setsid()
    try:
        _private_folders(disk)
        _drop_privileges()
    except OSError:
        os.write(results, b"unsupported")
        os._exit(0)
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(said, _ANSWERS_FD)
            os.closerange(_ANSWERS_FD + 1, 4096)
            _limit(cpu, disk, code)
            np.random.seed()
            random.seed()
            harness.finish(_ANSWERS_FD, token, text)
        finally:
            os._exit(98)
    os.close(said)
    _, raw, usage = os.wait4(pid, 0)
    seconds = usage.ru_utime + usage.ru_stime
    status = os.waitstatus_to_exitcode(raw)
    os.write(results, struct.pack(">idQ", status, seconds, usage.ru_maxrss * 1024))
    os._exit(0)


def _private_folders(disk: int) -> None:
    """Own user map, and empty bounded folders over everything that could be written or tells."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text("1000 1000 1")
    Path("/proc/self/gid_map").write_text("1000 1000 1")
    _mount("none", "/", None, _REMOUNT_PRIVATE, None)
    for folder in ("/proc", "/dev/shm", "/tmp", "/work"):  # noqa: S108 - the sandbox's own
        _mount("tmpfs", folder, "tmpfs", _NOSUID_NODEV, f"size={disk},mode=0755")
    os.chdir("/work")


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


def _limit(cpu: int, disk: int, code: bytes) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    program = _FilterProgram(len(code) // 8, ctypes.cast(ctypes.c_char_p(code), ctypes.c_void_p))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        os._exit(97)
    if _libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0):
        os._exit(97)


def _read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := os.read(fd, size - len(data))):
        data += chunk
    return data


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    serve()
