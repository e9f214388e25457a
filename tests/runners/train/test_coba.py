"""CoBa by hand, its bounds, and that its state survives a checkpoint."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.train.coba import CoBa, absolute_convergence, relative_convergence


def softmax(*values: float) -> np.ndarray:
    powers = np.exp(np.array(values))
    return powers / powers.sum()


def test_weights_are_uniform_before_there_is_a_slope() -> None:
    coba = CoBa(3, window=4, tau=5)
    coba.update(np.array([1.0, 2.0, 3.0]))
    assert coba.weights == pytest.approx([1 / 3] * 3)


def test_the_first_slopes_by_hand() -> None:
    # Ratios to the first losses: [1, 1] then [0.9, 0.5]: slopes -0.1 and -0.5.
    coba = CoBa(2, window=4, tau=5)
    coba.update(np.array([2.0, 4.0]))
    coba.update(np.array([1.8, 2.0]))
    relative = softmax(2 * -0.1 / 0.6, 2 * -0.5 / 0.6)
    # One point of history: t softmax_t = 1, so the factor is 1 and only RCS counts.
    assert coba.divergence_factor == pytest.approx(1.0)
    assert coba.weights == pytest.approx(relative)
    assert coba.weights[0] > coba.weights[1], "the slower task weighs more"


def test_the_second_slopes_by_hand() -> None:
    coba = CoBa(2, window=2, tau=5)
    for losses in ([1.0, 1.0], [0.9, 0.5], [0.95, 0.4]):
        coba.update(np.array(losses))
    slopes = np.array([[-0.1, -0.5], [0.05, -0.1]])
    relative = softmax(2 * 0.05 / 0.15, 2 * -0.1 / 0.15)
    absolute = softmax(-2 * 0.05 / 0.15, 2 * 0.1 / 0.6)
    # α_max: -0.1 then 0.05; quotients 1 * 0.1 / 0.1 and 2 * 0.05 / 0.15.
    factor = min(2 * softmax(-5 * 1.0, -5 * 2 * 0.05 / 0.15)[1], 1)
    assert relative_convergence(slopes[-1]) == pytest.approx(relative)
    assert absolute_convergence(slopes) == pytest.approx(absolute)
    assert coba.divergence_factor == pytest.approx(factor)
    assert coba.weights == pytest.approx(factor * relative + (1 - factor) * absolute)


def test_weights_stay_even_while_warming_up_and_then_know_what_was_before() -> None:
    coba = CoBa(2, window=3, tau=5)
    for losses in ([1.0, 1.0], [0.9, 0.5]):
        coba.update(np.array(losses), warming_up=True)
        assert coba.weights == pytest.approx([0.5, 0.5])
    coba.update(np.array([0.8, 0.4]))
    slopes = np.array([-0.1, -0.3])  # over all three points
    assert coba.weights == pytest.approx(relative_convergence(slopes))


def reference_factor(slopes: list[float], tau: float) -> float:
    """DF as the paper writes it, signs and all."""
    exponents = [-tau * t * a / sum(slopes[:t]) for t, a in enumerate(slopes, start=1)]
    return float(min(len(slopes) * softmax(*exponents)[-1], 1))


STEPS = np.arange(60.0)
HEALTHY = {
    "exponential": (0.5 + np.exp(-STEPS / 15), 0.5 + 0.8 * np.exp(-STEPS / 20)),
    "one over t": (0.5 + 1 / (1 + STEPS), 0.5 + 1.5 / (1 + 0.7 * STEPS)),
    "straight": (2 - 0.01 * STEPS, 2 - 0.02 * STEPS),
}


@pytest.mark.parametrize("how", HEALTHY)
def test_relative_convergence_decides_as_long_as_every_task_converges(how: str) -> None:
    coba = CoBa(2, window=20, tau=5)
    for step, losses in enumerate(np.stack(HEALTHY[how], axis=1)):
        coba.update(losses)
        assert coba.divergence_factor > 0.99, f"at point {step}"


@pytest.mark.parametrize("steepening", [-0.001, 0.001])
def test_the_factor_is_the_papers_where_slopes_have_one_sign(steepening: float) -> None:
    # With a window of 2 the slopes are the differences: they steepen from point to point.
    coba = CoBa(1, window=2, tau=5)
    losses, slopes = [1.0], []
    for t in range(1, 12):
        slopes.append(steepening * (1 + 0.2 * t))
        losses.append(losses[-1] + slopes[-1])
    coba.update(np.array(losses[:1]))
    seen = []
    for t, loss in enumerate(losses[1:], start=1):
        coba.update(np.array([loss]))
        seen.append(coba.divergence_factor)
        assert seen[-1] == pytest.approx(reference_factor(slopes[:t], 5))
    assert seen[-1] < 0.8, "a case in which the factor is not simply 1"


def test_a_task_that_diverges_after_a_long_descent_lowers_the_factor_and_loses_weight() -> None:
    coba = CoBa(2, window=5, tau=5)
    factors, slopes = [], []
    for step in range(16):
        upward = max(0, step - 8)
        coba.update(np.array([2.0 - 0.1 * min(step, 8) + 0.2 * upward, 2 - 0.05 * step]))
        factors.append(coba.divergence_factor)
        if step == 8:
            slopes = [-0.025] * 8
    assert min(factors[:9]) > 0.99, "both converge so far"
    # The quotient as the paper signs it is negative here, and would say that all is well.
    assert reference_factor([*slopes, 0.05], 5) == 1
    assert factors[-1] < 0.1
    assert coba.weights[0] < 0.2


@given(st.lists(st.lists(st.floats(0.01, 20), min_size=3, max_size=3), min_size=1, max_size=30))
def test_weights_are_shares_and_the_factor_a_fraction(history: list[list[float]]) -> None:
    coba = CoBa(3, window=6, tau=5)
    for losses in history:
        coba.update(np.array(losses))
        assert coba.weights.sum() == pytest.approx(1)
        assert (coba.weights >= 0).all()
        assert 0 <= coba.divergence_factor <= 1


def test_a_restored_state_goes_on_as_if_never_stopped() -> None:
    rng = np.random.default_rng(0)
    history = rng.uniform(0.5, 2, (20, 3))
    whole, first = CoBa(3, 5, 5.0), CoBa(3, 5, 5.0)
    for losses in history:
        whole.update(losses)
    for losses in history[:9]:
        first.update(losses)
    second = CoBa(3, 5, 5.0)
    second.restore(json.loads(json.dumps(first.state())))
    for losses in history[9:]:
        second.update(losses)
    assert second.weights.tolist() == whole.weights.tolist()


def test_a_loss_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        CoBa(2, 5, 5.0).update(np.array([1.0, np.nan]))
