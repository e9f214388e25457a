"""A fork of the server cannot be told from an interpreter of its own, and cannot fake its end."""

import pytest

from tests.runners.evaluate.conftest import Bar, OpenBar, Rows

FAMILY = "humanevalsynthesize"

# What a program can see of the process it runs in, as expressions over the usual imports.
SURROUNDINGS = {
    "modules": "sorted(sys.modules)",
    "search path": "sys.path, sys.path_hooks[:1], sorted(sys.path_importer_cache)[:2]",
    "arguments": "sys.argv, sys.orig_argv, sys.flags, sys.executable",
    "main module": "sorted(vars(sys.modules['__main__']))",
    "where it lies": "sys.modules['__main__'].__file__, sys.modules['__main__'].__spec__",
    "built-in names": "sorted(vars(__import__('builtins')))",
    "environment": "sorted(os.environ.items())",
    "files": "[(n, os.stat(n).st_size, os.stat(n).st_mode) for n in sorted(os.listdir('/work'))]",
    "folders": "[(n, oct(os.stat('/' + n).st_mode)) for n in ('tmp', 'work', 'dev/shm')]",
    "descriptors": "[fd for fd in range(64) if os.path.exists(f'/dev/fd/{fd}') or reachable(fd)]",
    "people": "os.getuid(), os.getgid(), os.getpid(), os.getppid(), os.getsid(0), os.getpgrp()",
    "frames": "[frame.name for frame in __import__('traceback').extract_stack()]",
    "recursion": "sys.getrecursionlimit(), sys.getswitchinterval()",
    "streams": "type(sys.stdin).__name__, type(sys.stdout).__name__, sys.__stdout__.isatty()",
    "threads": "[t.name for t in __import__('threading').enumerate()]",
    "limits": "__import__('ctypes') and [limit(n) for n in (0, 1, 4, 7)]",
}
_HELPERS = """
def reachable(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True

def limit(kind):
    import ctypes
    pair = (ctypes.c_ulong * 2)()
    ctypes.CDLL(None).getrlimit(kind, pair)
    return list(pair)
"""


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_fork_finds_what_an_interpreter_of_its_own_finds(
    bar: OpenBar, rows: Rows, name: str
) -> None:
    at, row = bar("python"), rows("python")[0]
    text = f"import os, sys{_HELPERS}\nraise ValueError(repr(({SURROUNDINGS[name]})))"
    source = at.source(row, text, FAMILY)

    (fast,) = at.fast([source])
    plain = at.plain(source)

    assert fast is not None
    assert fast.detail == plain.detail
    assert plain.detail.startswith("ValueError: ")


_END = "os._exit(0)"
_EVERY_DESCRIPTOR = """
def tell(word):
    for fd in range(1, 16):
        try: os.write(fd, word)
        except OSError: pass
"""
# What a program might try to be counted as passed without running its tests to their end.
FORGERIES = {
    "exit status": _END,
    "what waits in descriptors": f"""{_EVERY_DESCRIPTOR}
for fd in range(16):
    os.set_blocking(fd, False) if fd > 2 else None
    try: tell(os.read(fd, 64))
    except OSError: pass
{_END}""",
    "standard input of process 1": f"""{_EVERY_DESCRIPTOR}
for pid in (1, 2, 'self'):
    for fd in range(16):
        try: tell(os.read(os.open(f'/proc/{{pid}}/fd/{{fd}}', os.O_RDONLY | os.O_NONBLOCK), 64))
        except OSError: pass
{_END}""",
    "words in the frames": f"""{_EVERY_DESCRIPTOR}
frame = sys._getframe()
while frame:
    for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
        if isinstance(value, (bytes, bytearray, str)):
            tell(value if isinstance(value, bytes) else value.encode())
    frame = frame.f_back
{_END}""",
    "names in the frames": """
frame = sys._getframe()
while frame:
    for name, value in {**frame.f_globals, **frame.f_locals}.items():
        if name in {'token', 'secret', 'word', 'proof'} and isinstance(value, bytes):
            os.write(3, value)
            os._exit(0)
    frame = frame.f_back
os._exit(0)""",
    "short words among all objects": """
import gc
for one in gc.get_objects():
    for value in gc.get_referents(one):
        if isinstance(value, bytes) and len(value) in (16, 32):
            os.write(3, value)
os._exit(0)""",
    "exceptions that are swallowed": """
import contextlib
contextlib.redirect_stdout.__exit__ = lambda *_: True
contextlib._RedirectStream.__exit__ = lambda *_: True
contextlib.suppress.__exit__ = lambda *_: True
assert False""",
    "exceptions that are shown as nothing": """
import traceback
traceback.format_exception_only = lambda *_: []
traceback.TracebackException.format_exception_only = lambda *_: iter(())
assert False""",
    "exceptions that are not any": """
import builtins
builtins.BaseException = ValueError
assert False""",
    "a hook for exceptions": """
import builtins
builtins.BaseException = ValueError
sys.excepthook = lambda *_: os._exit(0)
assert False""",
    "an exit handler": "import atexit\natexit.register(os._exit, 0)\nassert False",
}


def forged(at: Bar, rows: Rows, name: str) -> list[str]:
    """The statuses that a forgery gets, by both ways."""
    source = at.source(rows("python")[0], f"import os, sys\n{FORGERIES[name]}", FAMILY)
    (fast,) = at.fast([source])
    return [one.status for one in (fast, at.plain(source)) if one is not None]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_end_does_not_pass(bar: OpenBar, rows: Rows, name: str, strict: bool) -> None:
    statuses = forged(bar("python", strict=strict), rows, name)

    assert statuses
    assert set(statuses) <= {"wrong", "runtime_error"}
