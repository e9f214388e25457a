"""The system calls a program in the sandbox may not make, as a classic BPF filter.

Written out as raw instructions so that no library is needed. Namespaces and dropped capabilities
already make nearly all of these fail; the filter takes the kernel code behind them out of reach.
"""

import errno
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass

# Instruction codes and offsets: linux/bpf_common.h, linux/seccomp.h, struct seccomp_data.
_LOAD = 0x20
_EQUAL = 0x15
_AT_LEAST = 0x35
_ANY_BIT = 0x45
_RETURN = 0x06
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_KILL = 0x80000000

_NEW_NAMESPACES = 0x7E020080  # CLONE_NEW{TIME,NS,CGROUP,UTS,IPC,USER,PID,NET}
_SOCKETS = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


@dataclass(frozen=True)
class _Machine:
    audit: int
    x32: bool
    clone: int
    clone3: int
    socket: int
    ioctl: int
    denied: dict[str, int]
    unmapped: dict[str, int]
    """Calls that make memory which belongs to no process until it is mapped."""


_SHARED_NUMBERS = {
    "pidfd_getfd": 438,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}

_MACHINES = {
    "x86_64": _Machine(
        audit=0xC000003E,
        x32=True,
        clone=56,
        clone3=435,
        socket=41,
        ioctl=16,
        unmapped={"shmget": 29, "memfd_create": 319, "memfd_secret": 447},
        denied=_SHARED_NUMBERS
        | {
            "ptrace": 101,
            "syslog": 103,
            "personality": 135,
            "modify_ldt": 154,
            "pivot_root": 155,
            "adjtimex": 159,
            "chroot": 161,
            "acct": 163,
            "settimeofday": 164,
            "mount": 165,
            "umount2": 166,
            "swapon": 167,
            "swapoff": 168,
            "reboot": 169,
            "sethostname": 170,
            "setdomainname": 171,
            "iopl": 172,
            "ioperm": 173,
            "init_module": 175,
            "delete_module": 176,
            "quotactl": 179,
            "lookup_dcookie": 212,
            "clock_settime": 227,
            "kexec_load": 246,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "unshare": 272,
            "perf_event_open": 298,
            "fanotify_init": 300,
            "name_to_handle_at": 303,
            "open_by_handle_at": 304,
            "clock_adjtime": 305,
            "setns": 308,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "kcmp": 312,
            "finit_module": 313,
            "kexec_file_load": 320,
            "bpf": 321,
            "userfaultfd": 323,
        },
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        x32=False,
        clone=220,
        clone3=435,
        socket=198,
        ioctl=29,
        unmapped={"shmget": 194, "memfd_create": 279, "memfd_secret": 447},
        denied=_SHARED_NUMBERS
        | {
            "lookup_dcookie": 18,
            "umount2": 39,
            "mount": 40,
            "pivot_root": 41,
            "chroot": 51,
            "quotactl": 60,
            "acct": 89,
            "personality": 92,
            "unshare": 97,
            "kexec_load": 104,
            "init_module": 105,
            "delete_module": 106,
            "clock_settime": 112,
            "syslog": 116,
            "ptrace": 117,
            "reboot": 142,
            "sethostname": 161,
            "setdomainname": 162,
            "settimeofday": 170,
            "adjtimex": 171,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "swapon": 224,
            "swapoff": 225,
            "perf_event_open": 241,
            "fanotify_init": 262,
            "name_to_handle_at": 264,
            "open_by_handle_at": 265,
            "clock_adjtime": 266,
            "setns": 268,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "kcmp": 272,
            "finit_module": 273,
            "bpf": 280,
            "userfaultfd": 282,
            "kexec_file_load": 294,
        },
    ),
}


def seccomp_filter(machine: str | None = None, *, unmapped_memory: bool = True) -> bytes | None:
    """The filter for ``machine`` (this one by default), as bwrap reads it; None if unknown.

    ``unmapped_memory`` false denies memory that only a control group can count.
    """
    known = _MACHINES.get(machine or platform.machine())
    if known is None:
        return None
    denied = known.denied if unmapped_memory else known.denied | known.unmapped
    return b"".join(_instructions(known, denied.values()))


def _instructions(machine: _Machine, denied: Iterable[int]) -> list[bytes]:
    deny = _ERRNO | errno.EPERM
    code = [
        _op(_LOAD, _ARCH),
        _op(_EQUAL, machine.audit, skip_if_true=1),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NR),
    ]
    if machine.x32:
        # The x32 numbers reach the same calls by other names.
        code += [_op(_AT_LEAST, 0x40000000, skip_if_false=1), _op(_RETURN, deny)]
    for number in sorted(denied):
        code += [_op(_EQUAL, number, skip_if_false=1), _op(_RETURN, deny)]
    # clone3 hides its flags behind a pointer that a filter cannot follow; C libraries fall back
    # to clone when it does not exist.
    code += [
        _op(_EQUAL, machine.clone3, skip_if_false=1),
        _op(_RETURN, _ERRNO | errno.ENOSYS),
        _op(_EQUAL, machine.clone, skip_if_false=4),
        _op(_LOAD, _ARG0),
        _op(_ANY_BIT, _NEW_NAMESPACES, skip_if_false=1),
        _op(_RETURN, deny),
        _op(_RETURN, _ALLOW),
        # Injecting keystrokes into a terminal.
        _op(_EQUAL, machine.ioctl, skip_if_false=5),
        _op(_LOAD, _ARG1),
        _op(_EQUAL, _TIOCSTI, skip_if_true=1),
        _op(_EQUAL, _TIOCLINUX, skip_if_false=1),
        _op(_RETURN, deny),
        _op(_RETURN, _ALLOW),
        # Some socket families (vsock, packet, alg) are not confined by a network namespace.
        _op(_EQUAL, machine.socket, skip_if_false=len(_SOCKETS) + 2),
        _op(_LOAD, _ARG0),
    ]
    for index, family in enumerate(_SOCKETS):
        code.append(_op(_EQUAL, family, skip_if_true=len(_SOCKETS) - index))
    code += [_op(_RETURN, _ERRNO | errno.EAFNOSUPPORT), _op(_RETURN, _ALLOW)]
    return code


def _op(code: int, value: int, *, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if_true, skip_if_false, value)
