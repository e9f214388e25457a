"""Stopping and going on: the same losses and the same weights, to the last bit."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runners.errors import ExitCode
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


@pytest.mark.parametrize("settings", [ONE_RANK, TWO_RANKS], ids=["1 rank full", "2 ranks ZeRO-2"])
def test_a_run_stopped_mid_epoch_and_resumed_is_bit_identical(
    make_run: Callable[..., Any], settings: dict[str, Any]
) -> None:
    whole = make_run("whole", **COMMON, **settings)
    whole.finish()
    broken = make_run("broken", **COMMON, **settings)
    code = broken.stop_at(3)
    assert code in {ExitCode.INTERRUPTED, 1}, broken.console()
    assert 3 <= broken.step() < whole.step(), "stopped before the end"
    broken.finish()
    assert "resumed from" in str(broken.events())
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
