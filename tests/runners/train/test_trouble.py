"""What goes wrong while training, and that all ranks take it the same way."""

from collections.abc import Callable
from typing import Any

import pytest

from runners.errors import ExitCode
from runners.train.checkpoint import CheckpointFolder
from runners.train.memory import Cut

pytestmark = [pytest.mark.slow, pytest.mark.full]

FEW: dict[str, Any] = {"max_train_steps": 4, "gradient_accumulation_steps": 2}
TWO: dict[str, Any] = {"num_processes": 2, "deepspeed": "on"}


def test_a_loss_that_is_not_finite_on_one_rank_is_skipped_by_both(
    make_run: Callable[..., Any],
) -> None:
    run = make_run(**FEW, **TWO, nonfinite_loss="skip")
    # The third micro-batch: the first of step 2.
    assert run.disturbed("nan", RANK_OF="1", AFTER="3") == ExitCode.DONE, run.console()
    told = run.series("nonfinite_steps", "skipped_steps", "gradient_norm")
    assert [step for step, values in told.items() if "nonfinite_steps" in values] == [2]
    assert told[2]["skipped_steps"] == 1
    assert "gradient_norm" not in told[2]
    assert "gradient_norm" in told[3], "the next step is taken"


@pytest.mark.parametrize("stage", [2, 3])
def test_nothing_of_a_step_thrown_away_is_in_the_next(
    make_run: Callable[..., Any], stage: int
) -> None:
    # Whichever micro-batch of step 2 is bad, the step is not taken, and the rest is the same.
    rest = []
    for bad in ("3", "4"):
        run = make_run(bad, **FEW, deepspeed="on", zero_stage=stage, nonfinite_loss="skip")
        assert run.disturbed("nan", AFTER=bad) == ExitCode.DONE, run.console()
        told = run.series("nonfinite_steps", "loss", "gradient_norm")
        assert [step for step, values in told.items() if "nonfinite_steps" in values] == [2]
        rest.append({step: told[step] for step in (3, 4)})
    assert rest[0] == rest[1]


def test_a_loss_that_is_not_finite_stops_both_ranks_and_says_where(
    make_run: Callable[..., Any],
) -> None:
    run = make_run(**FEW, **TWO)
    assert run.disturbed("nan", RANK_OF="1", AFTER="3") != ExitCode.DONE
    assert "the loss of step 2 is not finite (on 1 of 2 ranks), so the step was not taken" in str(
        run.events()[-1]
    )
    assert run.step() == 1


def test_out_of_memory_says_what_would_help(make_run: Callable[..., Any]) -> None:
    run = make_run(**FEW, per_device_train_batch_size=2)
    assert run.disturbed("full") == ExitCode.FAILED
    told = str(run.events()[-1])
    assert "there was not enough memory for step 1. The estimate for one rank is" in told
    assert told.count(";") == 2, "three changes"
    assert "auto_batch_size=true" in told or "Micro-batch 1" in told


@pytest.mark.parametrize("during", ["validation", "loading"])
def test_out_of_memory_outside_a_step_says_so_too(
    make_run: Callable[..., Any], during: str
) -> None:
    run = make_run(**FEW, evaluation_steps=2)
    assert run.disturbed(f"full {during}") == ExitCode.FAILED
    where = {"validation": "validation after step 2", "loading": "loading the model"}[during]
    assert f"there was not enough memory for {where}. The estimate" in str(run.events()[-1])


@pytest.mark.parametrize("ranks", [{}, TWO], ids=["1 rank", "2 ranks"])
def test_auto_batch_size_goes_on_with_the_same_global_batch(
    make_run: Callable[..., Any], ranks: dict[str, Any]
) -> None:
    settings = {"max_train_steps": 4, "per_device_train_batch_size": 4, "lora_dropout": 0.0}
    run = make_run(**settings, **ranks, auto_batch_size=True)
    # One rank alone has room for one row; 4 rows are cut to 2, and those to 1.
    last = str(ranks.get("num_processes", 1) - 1)
    assert run.disturbed("full", RANK_OF=last) == ExitCode.DONE, run.console()
    assert "1 rows a micro-batch and 4 micro-batches a step" in str(run.events())
    cut = Cut.read(run.output / "checkpoints")
    assert cut is not None, "a resume goes on with it"
    assert (cut.spread.micro_batch, cut.spread.accumulation) == (1, 4)
    whole = make_run("whole", **settings, **ranks)
    whole.finish()
    for step, values in whole.series("loss").items():
        for key, value in values.items():
            assert run.series("loss")[step][key] == pytest.approx(value, rel=1e-4)


def test_the_launcher_does_not_start_again_what_failed_for_another_reason(
    make_run: Callable[..., Any],
) -> None:
    run = make_run(**FEW, **TWO, per_device_train_batch_size=2, auto_batch_size=True)
    assert run.disturbed("nan", RANK_OF="1", AFTER="3") != ExitCode.DONE
    assert "not for want of memory, so it is not started again" in run.console()
    assert run.step() == 1
    assert CheckpointFolder(run.output / "checkpoints", None).newest() is None
