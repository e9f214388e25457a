"""The odd programs' snippets in C++."""

from tests.runners.evaluate.snippets.base import Snippet, table

CPP = table(
    body={
        "print": 'cout << "x";',
        "print to stderr": 'cerr << "x";',
        "flood of prints": "{ string s(1 << 20, 'x'); for (int k = 0; k < 100; k++) cout << s; }",
        "exit 0": "exit(0);",
        "exit 1": "exit(1);",
        "exit 97": "exit(97);",
        "exit at once": "_Exit(0);",
        "abort": "abort();",
        "exception": "throw 1;",
        "trap": "__builtin_trap();",
        "endless loop": "for (volatile int k = 0;;) k = k;",
        "memory": "for (;;) memset(malloc(1 << 20), 1, 1 << 20);",
        "untouched memory": "volatile char *m = (char *) malloc(1ul << 40); m = m;",
        "standard input": "{ string s; if (!(cin >> s)) throw 1; }",
        "closed stdout": "fclose(stdout);",
        "bytes that are no text": 'cout << "\\xff";',
        "division by zero": "{ volatile int z = 0; z = 1 / z; }",
        "null": "*(volatile int *) 0 = 1;",
        "index": "vector<int>().at(0);",
        "library error": "string().substr(1);",
        "file written": 'if (!(ofstream("x") << "x")) throw 1;',
        "missing file": 'if (!ifstream("/nowhere")) throw 1;',
        "own file": 'if (!ifstream("test.cpp")) throw 1;',
        "own text": (
            '{ ifstream f("test.cpp"); string s; getline(f, s); '
            'if (s != "using namespace std;") throw 1; }'
        ),
        "files beside it": (
            'if (system("[ \\"$(ls -A | sort | tr \'\\\\n\' /)\\" = a.out/test.cpp/ ]")) throw 1;'
        ),
        "large binary": "static char large[80 << 20] = {1}; if (!large[0]) throw 1;",
        "environment": 'if (!getenv("NOT_THERE")) throw 1;',
        "process": 'if (system("true")) throw 1;',
        "wrong return": "return !true;",
        "missing name": "nothing_there();",
        "unused warning": "int unused;",
        "line": 'static_assert(__LINE__ > 30, "");',
        "counter": 'static_assert(__COUNTER__ == 0, "");',
        "file name": 'if (string(__FILE__) != "test.cpp") throw 1;',
        "include level": 'static_assert(__INCLUDE_LEVEL__ == 0, "");',
        "language version": "auto f = [](auto x) { return x; }; f(1);",
    },
    deep_recursion=Snippet(
        "r(0);", head="int r(int n) { volatile int a[99]; a[0] = n; return r(n + 1) + a[0]; }"
    ),
    sleep=Snippet("pause();", head="#include <unistd.h>"),
    signal=Snippet("raise(SIGKILL);", head="#include <signal.h>"),
    thread_left_running=Snippet("thread([] { for (;;); }).detach();", head="#include <thread>"),
    daemon=Snippet("if (fork() == 0) pause();", head="#include <unistd.h>"),
    locale=Snippet('if (!setlocale(LC_ALL, "de_DE.UTF-8")) throw 1;', head="#include <clocale>"),
    tail_function=Snippet(tail="int g() { return 1; }"),
    syntax_error=Snippet(tail="int broken("),
    error_directive=Snippet(tail="#error x"),
    missing_import=Snippet(head="#include <nothing.h>"),
    duplicate_main=Snippet(tail="int main() { return 0; }"),
    main_by_another_name=Snippet(tail="#define start int\nstart main() { return 0; }"),
    assert_undone=Snippet(tail="#define assert(x)"),
    unicode_identifier=Snippet(tail="int größe = 1;"),
    early_exit_before_main=Snippet(tail="struct T { T() { exit(0); } } t;"),
    exit_after_main=Snippet(tail="struct U { ~U() { _Exit(3); } } u;"),
    words_redefined=Snippet(tail="#define true false"),
    include_of_itself=Snippet(tail='#include "test.cpp"'),
    pragma_once=Snippet(head="#pragma once"),
    poison=Snippet(head="#pragma GCC poison printf"),
    prelude_again=Snippet(head="#include <iostream>\n#include <bits/stdc++.h>"),
    ambiguous_name=Snippet("int k = count;", head="int count = 1;"),
    assembly=Snippet(tail='asm(".globl nothing");'),
)
