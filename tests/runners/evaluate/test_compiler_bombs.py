"""Programs that attack the compiler: they fail like any other, and the next one is judged."""

import pytest

from tests.runners.evaluate.conftest import OpenBar, Rows

FAMILY = "humanevalsynthesize"
BOMBS = {
    "an endless header": '#include "/dev/zero"\n',
    "templates without end": (
        "template<int N> struct B { typedef typename B<N + 1>::t t; };\nB<0>::t b;\n"
    ),
    "an assembler include of the password file": '__asm__(".incbin \\"/etc/shadow\\"");\n',
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_compiler_bomb_does_not_pass_and_disturbs_nobody(
    bar: OpenBar, rows: Rows, name: str
) -> None:
    cpp = bar("cpp", slack=0.1)
    row = rows("cpp")[0]
    right = row["prompt"] + row["canonical_solution"]

    bomb, after = cpp.fast([cpp.source(row, text, FAMILY) for text in (BOMBS[name] + right, right)])

    assert bomb is not None
    assert after is not None
    assert not bomb.passed
    assert after.passed
