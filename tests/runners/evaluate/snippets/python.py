"""The odd programs' snippets in Python."""
# ruff: noqa: E501 - a snippet stays on its line, as in a program

from tests.runners.evaluate.snippets.base import Snippet, table

PYTHON = table(
    body={
        "print": "print('x')",
        "print to stderr": "import sys; sys.stderr.write('x')",
        "flood of prints": "print('x' * 65536 * 16)",
        "flood past Python": "for _ in range(200): os.write(1, b'x' * 65536)\n",
        "exit 0": "sys.exit(0)",
        "exit 3": "sys.exit(3)",
        "exit at once": "import os; os._exit(0)",
        "exception": "raise ValueError('x')",
        "exception group": "raise ExceptionGroup('x', [ValueError('y')])",
        "keyboard interrupt": "raise KeyboardInterrupt",
        "exception that cannot be shown": (
            "class E(Exception):\n    def __str__(self): raise ValueError\nraise E"
        ),
        "abort": "import os; os.abort()",
        "signal": "import signal; signal.raise_signal(signal.SIGTERM)",
        "alarm": "import signal, time; signal.alarm(1); time.sleep(3)",
        "endless loop": "while True: pass",
        "sleep": "import time; time.sleep(10**6)",
        "deep recursion": "def r(n): return r(n + 1)\nr(0)",
        "recursion that is caught": (
            "def r(n):\n    try: return r(n + 1)\n    except RecursionError: return n\nr(0)"
        ),
        "stack overflow": "sys.setrecursionlimit(10**8)\ndef r(n): return r(n + 1)\nr(0)",
        "memory": "x = [b'x' * (1 << 28) for _ in range(12)]",
        "untouched memory": "x = bytearray(1 << 33)",
        "standard input": "input()",
        "closed stdout": "import os; os.close(1)",
        "bytes that are no text": "sys.stdout.buffer.write(b'\\xff')",
        "thread left running": "import threading, time; threading.Thread(target=time.sleep, args=(30,)).start()",
        "division by zero": "1 / 0",
        "nothing dereferenced": "None.x",
        "index": "[][0]",
        "key": "{}['x']",
        "assertion": "assert False",
        "missing import": "import nothing_there",
        "missing name": "nothing_there()",
        "missing file": "open('/nowhere').read()",
        "file written": "open('out.txt', 'w').write('x')",
        "locale": "import locale; locale.setlocale(locale.LC_ALL, 'de_DE.UTF-8')",
        "environment": "import os; os.environ['NOT_THERE']",
        "guarded call": "import os; os.getcwd()",
        "hidden module": "import resource",
        "fork": "import ctypes; ctypes.CDLL(None).fork()",
        "process": "import subprocess; subprocess.run(['true'])",
        "own status": "open('/proc/self/status').read()",
        "warning": "import warnings; warnings.warn('x')",
        "builtin replaced": "import builtins; builtins.len = None",
        "submodule not imported": "import concurrent; concurrent.futures",
        "main module": "import __main__; __main__.nothing_there",
        "argument list": "sys.argv[5]",
        "async": "import asyncio; asyncio.run(asyncio.sleep(0))",
        "multiprocessing": "import multiprocessing; multiprocessing.Pool(1).map(abs, [1])",
    },
    tail_function=Snippet(tail="def g(): return 1"),
    syntax_error=Snippet(tail="def broken(:"),
    unicode_identifier=Snippet(tail="größe = 1"),
    main_guard=Snippet(tail="if __name__ == '__main__':\n    raise ValueError"),
    wrong_return=Snippet("return None"),
    bad_indentation=Snippet(tail="  x = 1\n y = 2"),
    equality_that_lies=Snippet(
        "return type('Yes', (), {'__eq__': lambda *_: True, '__bool__': lambda _: True})()"
    ),
    future_import=Snippet(head="from __future__ import annotations"),
    coding_cookie=Snippet(head="# -*- coding: latin-1 -*-"),
)
