"""Stop rules fed piece by piece give the same answer as the whole text, at every prefix."""

from hypothesis import given
from hypothesis import strategies as st

from runners.benchmarks.postprocess import stop_rule
from runners.benchmarks.stopping import StopChecker, first_stop, holds, reason
from runners.benchmarks.tasks import TASKS

FRAGMENTS = [
    *"\n\n\n {}}} \t#@x`",
    "class", "def", "print", "if", "assert", "struct", "func", "func main(", "//", '"""', "<|/",
    "<|endoftext|>", "<|im_end|>", "<|im", "_end|>", "é", "漢", "\r\n", "    return x\n",
    "ass", "ert",
]  # fmt: skip

pieces = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=30)


@given(task=st.sampled_from(TASKS), parts=pieces)
def test_feeding_pieces_equals_testing_the_whole_text_at_every_prefix(
    task: str, parts: list[str]
) -> None:
    rule = stop_rule(task)
    checker, text = StopChecker(rule), ""
    for part in parts:
        assert checker.holds_with(part) == holds(rule, text + part)
        text += part
        fed = checker.feed(part)
        assert fed == holds(rule, text)
        assert (reason(rule, text) is not None) == fed
        if fed:
            return


@given(task=st.sampled_from(TASKS), text=pieces.map("".join))
def test_first_stop_is_the_shortest_prefix_that_the_rule_holds_of(task: str, text: str) -> None:
    rule = stop_rule(task)
    found = first_stop(rule, text)
    held = [n for n in range(1, len(text) + 1) if holds(rule, text[:n])]
    assert found == (held[0] if held else None)
