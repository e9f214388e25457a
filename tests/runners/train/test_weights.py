"""The losses as token weights: each case by hand, and what holds for all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.train.weights import fixed_weights, sample_weights, step_weights

# Three samples: two of task 0 with 1 and 3 trained tokens, one of task 1 with 4.
TOKENS = np.array([1, 3, 4])
TASKS = np.array([0, 0, 1])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("case1", [1 / 8, 1 / 8, 1 / 8]),
        ("case2", [1 / 3, 1 / 9, 1 / 12]),
        ("case3", [1 / 8, 1 / 8, 1 / 8]),
        ("case4", [1 / 4, 1 / 12, 1 / 8]),
    ],
)
def test_each_case_by_hand(mode: str, expected: list[float]) -> None:
    assert sample_weights(TOKENS, TASKS, mode) == pytest.approx(expected)  # type: ignore[arg-type]


def test_case3_and_case1_differ_once_tasks_are_of_unequal_size() -> None:
    tokens, tasks = np.array([2, 2, 4, 8]), np.array([0, 0, 1, 1])
    assert sample_weights(tokens, tasks, "case1") == pytest.approx([1 / 16] * 4)
    assert sample_weights(tokens, tasks, "case3") == pytest.approx([1 / 8, 1 / 8, 1 / 24, 1 / 24])


def test_a_token_losses_example_summed_by_hand() -> None:
    # Token losses: sample 0: 2; sample 1: 1, 2, 3; sample 2: 4, 4, 4, 4.
    losses = [[2.0], [1.0, 2.0, 3.0], [4.0] * 4]
    for mode, by_hand in (
        ("case1", 24 / 8),
        ("case2", (2 + 2 + 4) / 3),
        ("case3", ((2 + 6) / 4 + 16 / 4) / 2),
        ("case4", ((2 + 2) / 2 + 4) / 2),
    ):
        weights = sample_weights(TOKENS, TASKS, mode)  # type: ignore[arg-type]
        total = sum(w * sum(each) for w, each in zip(weights, losses, strict=True))
        assert total == pytest.approx(by_hand), mode


def test_fixed_weights_scale_each_tasks_mean() -> None:
    shares = fixed_weights({"a": 3.0, "b": 1.0}, ["a", "b"])
    assert sample_weights(TOKENS, TASKS, "fixed", shares) == pytest.approx(
        [0.75 / 4, 0.75 / 4, 0.25 / 4]
    )


def test_a_step_with_one_task_still_feels_its_weight() -> None:
    shares = np.array([0.9, 0.1])
    only_second = sample_weights(np.array([5]), np.array([1]), "coba", shares)
    assert only_second == pytest.approx([0.1 / 5])


def test_samples_without_trained_tokens_count_nowhere() -> None:
    weights = sample_weights(np.array([0, 2, 2]), np.array([1, 0, 0]), "case4")
    assert weights == pytest.approx([0, 1 / 4, 1 / 4])


def test_no_samples_give_no_weights() -> None:
    empty = np.empty(0, np.int64)
    step = step_weights(empty, empty, empty, 2, "case3")
    assert step.of_tokens(np.array([[-1, 3]])).tolist() == [[0.0, 0.0]]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), min_size=1, max_size=40),
    st.sampled_from(["case1", "case2", "case3", "case4"]),
)
def test_the_weights_of_all_trained_tokens_sum_to_one(
    samples: list[tuple[int, int]], mode: str
) -> None:
    tokens, tasks = (np.array(column) for column in zip(*samples, strict=True))
    weights = sample_weights(tokens, tasks, mode)  # type: ignore[arg-type]
    assert (weights * tokens).sum() == pytest.approx(1.0 if tokens.any() else 0.0)


def test_tokens_find_their_samples_weight_and_padding_none() -> None:
    step = step_weights(np.array([7, 3, 7]), np.array([2, 4, 2]), np.array([0, 1, 0]), 2, "case2")
    ids = np.array([[3, 7, -1], [5, 7, 3]])
    third = 1 / 3
    assert step.of_tokens(ids) == pytest.approx(
        np.array([[third / 4, third / 2, 0], [0, third / 2, third / 4]])
    )
    assert step.task_tokens.tolist() == [4, 4]
