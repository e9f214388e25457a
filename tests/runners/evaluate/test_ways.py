"""The fast way gives the plain way's verdict, whatever the program does."""

import pytest

from runners.evaluate.languages import LANGUAGES
from tests.runners.evaluate.conftest import Bar, OpenBar, Rows

FAMILY = "humanevalsynthesize"

# What goes in front of the canonical solution, or behind it, in each language. Endless loops are
# judged under a tenth of the usual time.
TAILS = {
    "python": (
        *("print('x')", "raise ValueError('x')", "raise SystemExit(0)", "import os; os._exit(0)"),
        *("def g(): return 1", "def broken(:", "while True: pass", "1/0", "import nothing_there"),
        *("def r(n): return r(n + 1)\nr(0)", "import sys; sys.stdout.buffer.write(b'\\xff')"),
        *("import os; os.write(1, b'\\xff')", "open('/proc/self/status').read()", "exit(0)"),
    ),
    "js": (
        *("console.log('x')", "throw new Error('x')", "process.exit(0)", "process.exit(1)"),
        *("const g = () => 1", "const broken = (", "while (true) {}", "require('nothing-there')"),
        *("const r = n => r(n + 1); r(0)", "process.stdout.write(Buffer.from([255]))"),
    ),
    "cpp": (
        *("int g(){ return 1; }", "struct S { S(){ throw 1; } } s;", "int broken(", "#error x"),
        *("struct T { T(){ exit(0); } } t;", "struct U { U(){ exit(3); } } u;", "#include <no.h>"),
        *("struct V { V(){ for(;;); } } v;", "int r(int n){ return r(n + 1) + 1; } int q = r(0);"),
        *(
            'struct W { W(){ cout << "\\xff"; } } w;',
            "int main(){ return 0; }",
            "#define assert(x)",
        ),
    ),
    "java": (
        *("class G {}", "class Broken {", "import nothing.there;", "class Main {}"),
        *("class T { static int x = 1 / 0; }", "interface I { int f(); }", "enum E { A, B }"),
    ),
    "go": (
        *("func g() int { return 1 }", "func broken(", 'func init() { panic("x") }', "var x = 1"),
        *("func init() { for {} }", 'import "nothing/there"', "func main() {}", "type T int"),
        *('func h() { fmt.Printf("%d", "x") }', "func unused() { x := 1 }", "const c = 1"),
    ),
    "rust": (
        *("fn g() -> i32 { 1 }", "fn broken(", "use nothing::there;", "fn main() {}", "struct S;"),
        *(
            "#[cfg(test)] fn t() {}",
            "#![deny(warnings)]",
            "static X: i32 = 1;",
            "fn p() { panic!() }",
        ),
    ),
}


def check_same(bar: Bar, rows: Rows, tails: tuple[str, ...]) -> None:
    row = rows(bar.name)[0]
    solution = row["prompt"] + row["canonical_solution"]
    sources = [bar.source(row, f"{solution}\n{tail}\n", FAMILY) for tail in tails]

    for tail, source, fast in zip(tails, sources, bar.fast(sources), strict=True):
        if fast is not None:
            plain = bar.plain(source)
            assert (tail, fast.passed, fast.status) == (tail, plain.passed, plain.status)


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_few_mutated_programs_are_judged_alike(bar: OpenBar, rows: Rows, language: str) -> None:
    check_same(bar(language, slack=0.1), rows, TAILS[language][:3])


@pytest.mark.full
@pytest.mark.parametrize("language", LANGUAGES)
def test_all_mutated_programs_are_judged_alike(bar: OpenBar, rows: Rows, language: str) -> None:
    check_same(bar(language, slack=0.1), rows, TAILS[language])
