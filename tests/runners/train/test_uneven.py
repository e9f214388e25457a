"""Ranks with unlike work in a turn: more to learn from, less, or nothing at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from runners.errors import ExitCode
from runners.train.cross_entropy import token_losses

TWO: dict[str, Any] = {"num_processes": 2, "deepspeed": "on", "padding_mode": "padding"}
HANG = 120
"""Seconds after which two tiny ranks are taken to wait for each other for ever."""


def test_the_head_is_used_as_often_as_the_rank_with_most_positions_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runners.train.cross_entropy.CHUNK_LOGITS", 200)
    head = torch.nn.Linear(8, 50)
    uses: list[int] = []
    head.register_forward_hook(lambda _head, given, _out: uses.append(len(given[0])))
    for positions, rows in ((6, [4, 2, 0]), (0, [0, 0, 0])):
        uses.clear()
        head.weight.grad = None
        hidden = torch.randn(positions, 8, requires_grad=True)
        losses = token_losses(hidden, torch.zeros(positions, dtype=torch.long), head, 50, most=9)
        assert len(losses) == positions
        assert uses == rows
        losses.sum().backward()
        assert sorted(uses) == sorted(2 * rows), "and as often again in the backward pass"
        assert head.weight.grad is not None
        assert bool(head.weight.grad.any()) == bool(positions)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_a_whole_epoch_of_uneven_ranks_ends_and_equals_one_rank(
    make_run: Callable[..., Any], material: Any, tmp_path: Path, stage: int
) -> None:
    # A head of its own: one tied to the embeddings is touched by every rank in any case.
    base = tmp_path / "untied"
    config = AutoConfig.from_pretrained(material.model)
    config.tie_word_embeddings = False
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    for file in material.model.glob("tokenizer*"):
        (base / file.name).write_bytes(file.read_bytes())
    # 77 samples in steps of 4: the last leaves one rank without any, and so does the 13 validated.
    settings = {
        "pretrained_model_path": str(base), "peft_type": "full", "num_train_epochs": 1,
        "evaluation_steps": 10, "per_device_eval_batch_size": 2, "data_split": "85,15,0",
    }  # fmt: skip
    two = make_run(
        "two", **settings, **TWO, zero_stage=stage,
        per_device_train_batch_size=2, gradient_accumulation_steps=1,
    )  # fmt: skip
    attempt = two.start({"DISTURB": "shard"}, program=Path(__file__).with_name("disturbed.py"))
    assert attempt.wait(HANG) == ExitCode.DONE, two.console()
    one = make_run("one", **settings, padding_mode="padding", per_device_train_batch_size=4)
    one.finish()
    keys = ("loss", "eval_loss")
    assert two.series(*keys).keys() == one.series(*keys).keys()
    for step, values in one.series(*keys).items():
        for key, value in values.items():
            assert two.series(*keys)[step][key] == pytest.approx(value, rel=1e-3), (step, key)
