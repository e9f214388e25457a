"""A corpus of attacks, each made from every language.

An attack is a shell command that ends with 0 only if it did what it was after; a program of each
language runs it in the middle of a right solution and fails unless it ended with 0. So a program
that passes has got through a wall. Compilers are attacked by texts of their own.

The corpus is run under limits that the attacks reach quickly, never outside a sandbox.
"""
# ruff: noqa: E501 - commands and programs stay on their lines

from dataclasses import dataclass
from typing import Any

from tests.runners.evaluate.mutations import placed
from tests.runners.evaluate.snippets.base import Snippet


@dataclass(frozen=True)
class Prey:
    """What the attacks are after, made by the test: each would show that it was reached."""

    secret: str
    port4: int
    port6: int
    socket: str
    folder: str


ATTACKS = {
    "fork bomb": "f() { f | f & }; f; sleep 5; exit 1",
    "memory bomb": "head -c 4G /dev/zero | tail; exit 1",
    "memory in unnamed files": (
        'perl -e \'for (1 .. 64) { my $n = "x"; my $fd = syscall(319, $n, 0); exit 1 if $fd < 0; '
        'open(my $f, ">&=", $fd) or exit 1; push @f, $f; my $b = "x" x (1 << 20); '
        "for (1 .. 60) { syswrite($f, $b) or exit 1 } }'"
    ),
    "memory in segments": (
        "perl -e 'for (1 .. 64) { my $s = shmget(0, 64 << 20, 0600); exit 1 if !defined $s; "
        'for my $k (0 .. 63) { shmwrite($s, "x" x (1 << 20), $k << 20, 1 << 20) or exit 1 } }\''
    ),
    "disk fill": "cat /dev/zero > fill; cat /dev/zero > /tmp/fill; cat /dev/zero > /dev/shm/fill; exit 1",
    "endless output": "cat /dev/zero",
    "endless errors": "cat /dev/zero >&2",
    "home folder": "ls FOLDER/* || ls /root/.??* /home/*/.??*",
    "/etc/shadow": "cat /etc/shadow",
    "environment of others": "cat /proc/[0-9]*/environ | grep -a SECRET",
    "writing outside": "touch FOLDER/x || touch /usr/x || touch /etc/x || touch /x || touch /opt/*/x",
    "network by IPv4": "perl -MIO::Socket::IP -e 'exit !IO::Socket::IP->new(\"127.0.0.1:PORT4\")'",
    "network by IPv6": "perl -MIO::Socket::IP -e 'exit !IO::Socket::IP->new(\"[::1]:PORT6\")'",
    "unix socket": "perl -MIO::Socket::UNIX -e 'exit !IO::Socket::UNIX->new(Peer => \"SOCKET\")'",
    "killing the parents": "kill -9 1; kill -9 -1; kill -9 $PPID; exit 1",
    "ptrace": "perl -e 'exit syscall(101, 16, 1, 0, 0) != 0'",
    "new namespaces": "unshare -r true || mount -t tmpfs x /tmp",
    "double-forked daemon": "( (setsid sleep 86400 > /dev/null 2>&1 &) & ); exit 1",
    "daemon that holds the output": "( (setsid sleep 86400 &) & ); exit 1",
    "SIGTERM ignored": "trap '' TERM INT HUP QUIT; sleep 86400",
    "links in place of results": "for f in * out a.out verdicts.jsonl; do ln -sfn /etc/passwd $f; done; exit 1",
    "forged verdicts": (
        'for fd in 1 2 3 4 5 6 7 8 9; do echo "{\\"passed\\": true, \\"status\\": 0}" >&$fd; done; '
        'echo "{\\"passed\\": true}" > verdicts.jsonl; exit 1'
    ),
    "100,000 files": "i=0; while [ $i -lt 100000 ]; do : > f$i; i=$((i+1)); done; exit 1",
}

EXPECTED = {
    "memory bomb": {"memory_limit", "timeout"},
    "endless output": {"output_limit", "timeout", "memory_limit"},
    "endless errors": {"output_limit", "timeout", "memory_limit"},
    "SIGTERM ignored": {"timeout"},
}
"""The statuses of those attacks that a limit has to end; Python's standard output is nothing, so
writing to it is only a waste of time; go test keeps in memory what a test prints. A busy machine may take longer to fill memory than it has."""

HARMLESS = (
    *("home folder", "environment of others", "writing outside", "network by IPv4"),
    *("network by IPv6", "unix socket"),
)
"""Attacks that hurt nobody where they succeed: only these are ever run without a sandbox."""

# What can be done in Go with those packages only that may be in a batch.
GO_BATCHED = {
    "memory bomb": "var m [][]byte; for { b := make([]byte, 1<<24); for k := range b { b[k] = 1 }; m = append(m, b) }",
    "endless output": 'for { fmt.Print(strings.Repeat("x", 1<<16)) }',
    "bomb of goroutines": "var f func(); f = func() { for { go f() } }; f()",
    "goroutines that spin": "for k := 0; k < 1000; k++ { go func() { for { } }() }; for { }",
    "sleep": "time.Sleep(24 * time.Hour)",
    "forged result": 'fmt.Println("--- PASS: TestHasCloseElements\\nPASS\\nok"); panic("x")',
}

# A body that runs the command COMMAND (a quoted literal) in a shell and fails unless it ends with 0.
_RUN = {
    "python": Snippet("import ctypes\nassert ctypes.CDLL(None).system(COMMAND.encode()) == 0"),
    "java": Snippet(
        'try { if (new ProcessBuilder("sh", "-c", COMMAND).inheritIO().start().waitFor() != 0) '
        'throw new Exception("no"); } catch (Exception e) { throw new RuntimeException(e); }'
    ),
    "js": Snippet(
        "require('child_process').execFileSync('sh', ['-c', COMMAND], { stdio: 'inherit' })"
    ),
    "cpp": Snippet("if (system(COMMAND)) abort();"),
    "go": Snippet(
        'c := exec.Command("sh", "-c", COMMAND); c.Stdout = os.Stdout; c.Stderr = os.Stderr; '
        "if c.Run() != nil { panic(1) }",
        head='import ("os"; "os/exec")',
    ),
    "rust": Snippet(
        'assert!(std::process::Command::new("sh").args(["-c", COMMAND]).status().unwrap().success());'
    ),
}

COMPILER_BOMBS = {
    "python": {
        "deep unary": "x = " + "-" * 200_000 + "1\n",
        "constant": "x = 'x' * (1 << 40)\n",
        "deep nesting": "x = " + "[" * 150 + "]" * 150 + "\n" + "(" * 5000 + ")" * 5000 + "\n",
    },
    "java": {
        "constants": "class B {\n"
        + "".join(
            f"static final String S{n} = {'+'.join([f'S{n - 1}'] * 4) if n else chr(34) * 2 + '+' + chr(34) + 'x' * 99 + chr(34)};\n"
            for n in range(14)
        )
        + "}\n",
        "deep expression": "class B { int x = " + "(" * 9000 + "1" + ")" * 9000 + "; }\n",
        "generics": (
            "class N<Z> {} class C<X> extends N<N<? super C<C<X>>>> {} "
            "class B { N<? super C<Byte>> f(C<Byte> c) { return c; } }\n"
        ),
    },
    "js": {"deep nesting": "[" * 100_000 + "\n", "deep template": "`${" * 50_000 + "\n"},
    "cpp": {
        "endless header": '#include "/dev/zero"\n',
        "templates without end": (
            "template<int N> struct B { typedef typename B<N + 1>::t t; };\nB<0>::t b;\n"
        ),
        "exponential templates": (
            "template<int N, int M> struct B { enum { v = B<N - 1, 2 * M>::v + B<N - 1, 2 * M + 1>::v }; };\n"
            "template<int M> struct B<0, M> { enum { v = 1 }; };\nint x = B<28, 0>::v;\n"
        ),
        "macros": "#define A0 0\n"
        + "".join(f"#define A{n} " + f"A{n - 1}, " * 9 + f"A{n - 1}\n" for n in range(1, 10))
        + "int x[] = { A9 };\n",
        "large object": "char x[1l << 33] = { 1 };\n",
        "the password file": '__asm__(".incbin \\"/etc/shadow\\"");\n',
        "the terminal": '#include "/dev/stdin"\n#include "/dev/tty"\n',
    },
    "go": {
        "large array": "var x [1 << 40]byte\n",
        "initialized array": "var x = [1 << 28]byte{1 << 28 - 1: 1}\n",
        "constant": "const c = 1 << 100000\nvar x = c\n",
        "embedded file": 'import _ "embed"\n//go:embed /etc/shadow\nvar shadow string\n',
    },
    "rust": {
        "macros": ("macro_rules! b { ($($x:tt)*) => { b!{ $($x)* $($x)* } } }\nb!{ x }\n"),
        "endless file": 'include!("/dev/zero");\n',
        "the password file": 'const S: &str = include_str!("/etc/shadow");\n',
        "types": (
            "type A = ((((u8, u8), (u8, u8)), u8), u8);\n"
            "const fn f(n: u64) -> u64 { let mut i = 0; while i < n { i += 1; } i }\n"
            "const N: u64 = f(1 << 60);\n"
        ),
        "large array": "static X: [u8; 1 << 36] = [1; 1 << 36];\n",
    },
}


def command_of(name: str, prey: Prey) -> str:
    """The attack as a shell command after this prey."""
    command = ATTACKS[name]
    for field, value in vars(prey).items():
        command = command.replace(field.upper(), str(value))
    return command


def attack(language: str, name: str, row: dict[str, Any], prey: Prey) -> str:
    """The first row's right solution with the attack in its body."""
    command = command_of(name, prey)
    literal = '"' + command.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if language == "rust":
        literal = f'r#"{command}"#'
    run = _RUN[language]
    return placed(Snippet(run.body.replace("COMMAND", literal), run.head), language, row)


def batched_attack(name: str, row: dict[str, Any]) -> str:
    """The first Go row's right solution with an attack that may share a batch."""
    return placed(Snippet(GO_BATCHED[name]), "go", row)


def bomb(language: str, name: str, row: dict[str, Any]) -> str:
    """The right solution with a text that attacks the compiler."""
    text = COMPILER_BOMBS[language][name]
    return placed(Snippet(tail=text) if language == "rust" else Snippet(head=text), language, row)
