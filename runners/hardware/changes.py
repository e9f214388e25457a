"""The single changes of a training config that save memory, the least costly first.

An ordered list and nothing else: whether a change makes a run fit is for the estimate to say.
Changes that leave the mathematics as it is come before those that change what is trained.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from runners.config import TrainConfig
from runners.hardware.recipe import Recipe


@dataclass(frozen=True)
class Change:
    """A config with a change made: the ``keys`` that differ, in words, and what it costs."""

    config: TrainConfig
    keys: dict[str, object]
    text: str
    cost: str


def single_changes(config: TrainConfig, recipe: Recipe) -> Iterator[Change]:
    """Each change that ``config`` allows, cheapest first."""
    for keys, text, cost in _candidates(config, recipe):
        try:
            changed = TrainConfig.model_validate({**config.model_dump(), **keys})
        except ValidationError:
            continue
        yield Change(changed, keys, text, cost)


def _candidates(
    config: TrainConfig, recipe: Recipe
) -> Iterator[tuple[dict[str, object], str, str]]:
    if config.attention == "eager":
        yield {"attention": "auto"}, "Use fused attention (attention=auto).", "none; it is faster"
    yield from _batch_changes(config)
    if config.gradient_checkpointing != "full":
        yield (
            {"gradient_checkpointing": "full"},
            "Recompute activations (gradient_checkpointing=full).",
            "about a third more time a step",
        )
    yield from _sharding_changes(config, recipe)
    if config.peft_type == "full":
        yield (
            {"peft_type": "lora", "quantization": None},
            "Train adapters instead of all weights (peft_type=lora).",
            "fewer trained parameters: another result, often as good",
        )
    if config.peft_type != "qlora":
        yield (
            {"peft_type": "qlora", "quantization": "4bit"},
            "Hold the base in 4 bits (peft_type=qlora).",
            "slower steps, and a base that is rounded",
        )
    if config.quantization == "8bit":
        yield (
            {"quantization": "4bit"},
            "Hold the base in 4 bits instead of 8 (quantization=4bit).",
            "a base that is rounded more",
        )
    if config.seq_length >= 1024:
        yield (
            {"seq_length": config.seq_length // 2},
            f"Shorten rows to {config.seq_length // 2} tokens (seq_length).",
            "longer samples are cut, dropped or split",
        )


def _batch_changes(config: TrainConfig) -> Iterator[tuple[dict[str, object], str, str]]:
    rows, accumulation = config.per_device_train_batch_size, config.gradient_accumulation_steps
    divisor = 2
    while rows % divisor == 0 and rows // divisor >= 1:
        keys: dict[str, object] = {"per_device_train_batch_size": rows // divisor}
        if config.global_batch_size is None:
            keys["gradient_accumulation_steps"] = accumulation * divisor
        yield (
            keys,
            f"Micro-batch {rows // divisor}, {divisor} times the accumulation "
            "(the same global batch).",
            "somewhat slower steps",
        )
        divisor *= 2


def _sharding_changes(
    config: TrainConfig, recipe: Recipe
) -> Iterator[tuple[dict[str, object], str, str]]:
    if not recipe.deepspeed:
        return
    if recipe.ranks > 1:
        if config.zero_stage < 2:
            yield (
                {"zero_stage": 2},
                "Shard optimizer and gradients (zero_stage=2).",
                "little: the same traffic, later",
            )
        if config.zero_stage < 3:
            yield (
                {"zero_stage": 3},
                "Shard the weights too (zero_stage=3).",
                "half as much traffic again between ranks",
            )
    if config.offload_optimizer == "none":
        yield (
            {"offload_optimizer": "cpu"},
            "Keep the optimizer in main memory (offload_optimizer=cpu).",
            "slower optimizer steps",
        )
    if config.offload_param == "none":
        yield (
            {"zero_stage": 3, "offload_param": "cpu", "offload_optimizer": "cpu"},
            "Keep weights and optimizer in main memory (zero_stage=3, offload_param=cpu).",
            "several times slower: every block crosses the bus",
        )
