"""The sentence of a resumed run, and the step that is read out of it."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from runners.lifecycle.resumption import resumed_notice, resumed_steps


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    st.integers(0, 10**9),
)
def test_the_step_is_read_back_whatever_the_checkpoint_is_called(name: str, step: int) -> None:
    notice = resumed_notice(Path("runs") / name, step, "exactly where it stopped")
    assert resumed_steps([notice]) == (step,)


def test_several_attempts_are_told_in_order_and_other_notices_passed_over() -> None:
    told = ["checkpoint at step 7, the best so far"]
    told += [resumed_notice(Path("c"), step, "exactly where it stopped") for step in (90, 30, 90)]
    assert resumed_steps(told) == (30, 90)
