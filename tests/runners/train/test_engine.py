"""What the engines keep of the optimizer, and what the loop takes for a fault."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from runners.config import TrainConfig
from runners.errors import JobFailedError
from runners.train.engine import DeepSpeedEngine, PlainEngine, step_count
from runners.train.inputs import Inputs
from runners.train.loop import Training, _nonfinite
from runners.train.setup import make_accelerator
from runners.train.tally import Interval, StepTotals


def linear_engine() -> PlainEngine:
    torch.manual_seed(0)
    module = torch.nn.Linear(4, 1)
    module.forward = lambda inputs: (  # type: ignore[method-assign,assignment]
        torch.nn.functional.linear(inputs, module.weight, module.bias).square().sum(),
        torch.zeros(1),
    )
    settings = TrainConfig(data_paths=["unused"], pretrained_model_path="unused")
    accelerator = make_accelerator(settings, {"ACCELERATE_USE_CPU": "true"})
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    return PlainEngine(accelerator, module, optimizer, clip=1.0)


def step(engine: PlainEngine, seed: int, *, usable: bool = True) -> None:
    rows = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
    loss, _ = engine.forward(cast(Inputs, rows))
    engine.backward(loss, last=True)
    engine.step(0.1, usable=usable)


def test_a_step_passed_over_is_none_for_adam_before_and_after_a_resume() -> None:
    whole = linear_engine()
    for seed in range(4):
        step(whole, seed, usable=seed != 1)
    state = whole.extra_state()
    assert state["updates"] == 3
    saved = [(name, {k: v.clone() for k, v in found.items()}) for name, found in whole.tensors()]
    resumed = linear_engine()
    resumed.restore(saved, state["updates"])
    for engine in (whole, resumed):
        step(engine, 9)
    for (_, one), (_, other) in zip(whole.tensors(), resumed.tensors(), strict=True):
        assert torch.equal(one["weight"], other["weight"])


def test_a_fused_adam_finds_its_step_count_beside_the_parameter() -> None:
    # torch's fused kernel on a GPU refuses a count on the CPU; the other ones want it there.
    elsewhere = torch.device("meta")
    assert step_count(3, {"fused": True}, elsewhere).device == elsewhere
    assert step_count(3, {"fused": None}, elsewhere).item() == 3.0


def test_deepspeed_does_not_go_on_after_a_backward_pass_broken_off() -> None:
    def broken_off(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    engine = object.__new__(DeepSpeedEngine)
    engine.ranks, engine.recovers = 1, True
    engine.deepspeed = SimpleNamespace(
        set_gradient_accumulation_boundary=lambda _last: None, backward=broken_off
    )
    with pytest.raises(torch.OutOfMemoryError):
        engine.backward(torch.zeros(()), last=False)
    assert not engine.recovers


def told(*, bad: int, scaled: bool) -> None:
    settings = TrainConfig(
        data_paths=["unused"], pretrained_model_path="unused", nonfinite_loss="stop"
    )
    training = SimpleNamespace(
        config=settings,
        engine=SimpleNamespace(scaled=scaled, ranks=2),
        interval=Interval(["a"]),
        tell=lambda _values: None,
        done=7,
    )
    totals = StepTotals(1.0, bad, 1, 1, 1, False, 0.1, (1.0,))
    _nonfinite(cast(Training, cast(Any, training)), totals)


def test_only_gradients_under_a_loss_scale_may_overflow() -> None:
    told(bad=0, scaled=True)
    with pytest.raises(JobFailedError, match="the gradient of step 7 is not finite"):
        told(bad=0, scaled=False)
    with pytest.raises(JobFailedError, match="the loss of step 7 is not finite"):
        told(bad=1, scaled=True)
