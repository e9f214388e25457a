"""Stopping and going on: the same losses and the same weights, to the last bit."""

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runners.errors import ExitCode
from runners.lifecycle.events import Notice
from runners.lifecycle.resumption import resumed_steps
from runners.train.checkpoint import CheckpointFolder

pytestmark = pytest.mark.slow

LOSSES = ("loss", "eval_loss", "gradient_norm", "trained_tokens/")
ONE_RANK: dict[str, Any] = {"peft_type": "full", "per_device_train_batch_size": 3}
TWO_RANKS: dict[str, Any] = {
    "peft_type": "lora",
    "num_processes": 2,
    "deepspeed": "on",
    "zero_stage": 2,
    "per_device_train_batch_size": 2,
    "lora_dropout": 0.1,
}
COMMON: dict[str, Any] = {
    "gradient_accumulation_steps": 3,
    "num_train_epochs": 2,
    "evaluation_steps": 4,
    "log_interval": 3,
    "num_warmup_steps": 2,
}


def assert_same_weights(one: Path, other: Path) -> None:
    files = sorted(path.name for path in one.glob("*.safetensors"))
    assert files == sorted(path.name for path in other.glob("*.safetensors"))
    for name in files:
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert torch.equal(value, second[key]), key


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(ONE_RANK, id="1 rank full"),
        pytest.param(TWO_RANKS, id="2 ranks ZeRO-2", marks=pytest.mark.full),
    ],
)
def test_a_run_stopped_at_random_inside_a_step_and_resumed_is_bit_identical(
    make_run: Callable[..., Any], settings: dict[str, Any]
) -> None:
    whole = make_run("whole", **COMMON, **settings)
    whole.finish()
    micros = COMMON["gradient_accumulation_steps"]
    # A usual step is done to its end before the run leaves; a long one is broken off.
    for name, long_step in (("done", "1000"), ("broken-off", "0")):
        # In the first epoch, whose last step may have fewer micro-batches.
        last = (whole.step() // 2 - 1) * micros
        after = random.choice([n for n in range(micros + 1, last) if n % micros])
        step, inside = divmod(after, micros)
        print(f"{name}: stopped in step {step + 1} after {inside} of {micros} micro-batches")
        broken = make_run(name, **COMMON, **settings)
        # One rank alone hears the signal.
        rank = str(settings.get("num_processes", 1) - 1)
        code = broken.disturbed("stop", AFTER=str(after), RANK_OF=rank, LONG_STEP=long_step)
        assert code in {ExitCode.INTERRUPTED, 1}, broken.console()
        newest = CheckpointFolder(broken.output / "checkpoints", None).newest()
        assert newest is not None, broken.console()
        assert newest.step == (step if name == "broken-off" else step + 1)
        broken.finish()
        assert "exactly where it stopped" in str(broken.events())
        assert broken.series(*LOSSES) == whole.series(*LOSSES)
        assert_same_weights(broken.output / "final", whole.output / "final")


def test_a_killed_run_goes_on_from_its_last_checkpoint_bit_identically(
    make_run: Callable[..., Any],
) -> None:
    settings = {**COMMON, **ONE_RANK, "checkpointing_steps": 2, "weighted_loss_mode": "coba"}
    settings |= {"coba_update_interval": 2}
    whole = make_run("whole", **settings)
    whole.finish()
    broken = make_run("broken", **settings)
    assert broken.stop_at(5, signal.SIGKILL) == -signal.SIGKILL
    newest = CheckpointFolder(broken.output / "checkpoints", None).newest()
    assert newest is not None
    assert newest.step in {2, 4, 6}
    broken.finish()
    keys = ("loss", "eval_loss", "weight/")
    assert broken.series(*keys) == whole.series(*keys)
    assert_same_weights(broken.output / "final", whole.output / "final")


def test_a_stop_does_not_wait_for_validation_and_the_resumed_run_begins_with_it(
    make_run: Callable[..., Any],
) -> None:
    settings = {**COMMON, **ONE_RANK, "weighted_loss_mode": "coba", "coba_update_interval": 4}
    settings |= {"max_train_steps": 8, "early_stopping": True}
    whole = make_run("whole", **settings)
    whole.finish()
    broken = make_run("broken", **settings)
    # In the second batch of CoBa's validation after step 4.
    assert broken.disturbed("stop validation", AFTER="2") == ExitCode.INTERRUPTED
    newest = CheckpointFolder(broken.output / "checkpoints", None).newest()
    assert newest is not None
    assert newest.step == broken.step() == 4
    assert not broken.series("eval_loss")[3]
    broken.finish()
    keys = (*LOSSES, "weight/")
    assert broken.series(*keys) == whole.series(*keys)
    assert_same_weights(broken.output / "final", whole.output / "final")
    assert broken.events()[-1].summary.get("best_step") == whole.events()[-1].summary.get(
        "best_step"
    )


def test_a_second_run_in_the_same_output_folder_does_not_take_up_the_first(
    make_run: Callable[..., Any], tmp_path: Path
) -> None:
    settings = {**COMMON, **ONE_RANK, "evaluation_steps": 0, "checkpointing_steps": 2}
    settings |= {"output_dir": tmp_path / "shared", "max_train_steps": 3}
    first = make_run("first", **settings)
    first.finish()
    second = make_run("second", **settings)
    assert second.start().wait() == ExitCode.USAGE
    assert "holds the checkpoints of another run, first" in str(second.events()[-1])
    # Asked for by name it is taken up, and not again once the run has checkpoints of its own.
    checkpoint = tmp_path / "shared" / "checkpoints" / "step-00000002"
    more = {**settings, "max_train_steps": 5, "resume_from_checkpoint": checkpoint}
    third = make_run("third", **more)
    third.finish()
    assert "at step 2" in str(third.events())
    third.finish()
    assert "step-00000004 at step 4" in str(third.events())


def test_a_run_that_passed_over_a_step_is_resumed_bit_identically(
    make_run: Callable[..., Any],
) -> None:
    settings = {**COMMON, **ONE_RANK, "max_train_steps": 6, "evaluation_steps": 0}
    settings |= {"nonfinite_loss": "skip", "checkpointing_steps": 4}
    whole = make_run("whole", **settings)
    assert whole.disturbed("nan", AFTER="5") == ExitCode.DONE, whole.console()
    assert whole.series("nonfinite_steps")
    rest = make_run(
        "rest", **settings, resume_from_checkpoint=whole.output / "checkpoints" / "step-00000004"
    )
    rest.finish()
    told = [event.text for event in rest.events() if isinstance(event, Notice)]
    assert resumed_steps(told) == (4,), "what the charts mark"
    assert_same_weights(rest.output / "final", whole.output / "final")


def test_on_another_number_of_ranks_the_rest_of_the_epoch_is_trained_in_a_new_order(
    make_run: Callable[..., Any],
) -> None:
    settings = {**COMMON, "num_train_epochs": 1, "log_interval": 1, "global_batch_size": 6}
    settings |= {**TWO_RANKS, "gradient_accumulation_steps": 1, "per_device_train_batch_size": 1}
    alone = {**settings, "num_processes": 1}
    two = make_run("two", **settings)
    assert two.stop_at(3) in {ExitCode.INTERRUPTED, 1}, two.console()
    done = two.step()
    one = make_run("one", **alone, resume_from_checkpoint=two.output)
    one.finish()
    whole = make_run("whole", **alone)
    whole.finish()
    assert f"at step {done}, with the rest of the epoch in a new order" in str(one.events())
    assert one.step() == whole.step(), "the global batch is the same, and so are the steps"
    # Of the step that both tell of, the first trained it; the other may begin with its validation.
    seen = {**one.series("trained_tokens/"), **two.series("trained_tokens/")}
    assert max(two.series("trained_tokens/")) == done
    assert total(seen) == total(whole.series("trained_tokens/")), "every sample once, none twice"


def total(series: dict[int, dict[str, float]]) -> dict[str, float]:
    """The sum of each key over all steps; each task's tokens come to a number of its own."""
    found: dict[str, float] = {}
    for values in series.values():
        for key, value in values.items():
            found[key] = found.get(key, 0) + value
    return {key: value for key, value in found.items() if not key.endswith("_per_second")}
