"""Hardware settings for a run that has none yet: what the wizard fills in, with the reason.

A ladder from the fastest settings to the most frugal ones; the first rung that fits is taken.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runners.config import TrainConfig
from runners.hardware.estimate import Estimate, estimate, gib
from runners.hardware.probe import Hardware


@dataclass(frozen=True)
class Suggested:
    """Config ``keys`` to set, why, and the estimate with them set."""

    keys: dict[str, object]
    reason: str
    estimate: Estimate


def suggest(hardware: Hardware, model_config: Mapping[str, Any], config: TrainConfig) -> Suggested:
    """ZeRO stage, precision, offload and recomputation for ``config`` on ``hardware``.

    Where nothing fits, the most frugal rung is given and its estimate says that it does not fit.
    Raises ``UsageError`` for a model we do not know.
    """
    on_gpu = bool(hardware.usable) and not config.use_cpu
    if not on_gpu:
        keys: dict[str, object] = {"mixed_precision": "no", "deepspeed": "off"}
        answer = _with(config, keys, model_config, hardware)
        if answer.verdict != "fits":
            keys |= {"gradient_checkpointing": "full"}
            answer = _with(config, keys, model_config, hardware)
        why = "use_cpu is on" if config.use_cpu else "there is no GPU"
        return Suggested(keys, f"float32 on the CPU, as {why}. {_told(answer)}", answer)
    precision = "bf16" if hardware.bf16 else "fp16"
    width = (
        "bf16, which every GPU here computes in"
        if hardware.bf16
        else "fp16, because not every GPU here has bf16"
    )
    tight: Suggested | None = None
    last: Suggested | None = None
    for keys, why in _rungs(len(hardware.usable)):
        chosen = {"mixed_precision": precision, "deepspeed": "auto", **keys}
        answer = _with(config, chosen, model_config, hardware)
        last = Suggested(chosen, f"{why}; {width}. {_told(answer)}", answer)
        if answer.verdict in {"fits", "unknown"}:
            return last
        if answer.verdict == "tight" and tight is None:
            tight = last
    assert last is not None
    return tight or last


def _rungs(gpus: int) -> Iterator[tuple[dict[str, object], str]]:
    plain: dict[str, object] = {"offload_optimizer": "none", "offload_param": "none"}
    recompute: dict[str, object] = {"gradient_checkpointing": "full"}
    off: dict[str, object] = {"gradient_checkpointing": "off"}
    first = {**plain, "zero_stage": 2 if gpus > 1 else 0}
    base = f"ZeRO 2 over {gpus} GPUs" if gpus > 1 else "one GPU, nothing to shard (ZeRO 0)"
    yield {**first, **off}, base
    yield {**first, **recompute}, f"{base}, recomputing activations"
    if gpus > 1:
        yield (
            {**plain, "zero_stage": 3, **recompute},
            f"ZeRO 3 over {gpus} GPUs because the weights have to be shared out too, "
            "recomputing activations",
        )
    stage = 3 if gpus > 1 else 2
    yield (
        {"zero_stage": stage, "offload_optimizer": "cpu", "offload_param": "none", **recompute},
        f"ZeRO {stage} with the optimizer in main memory, recomputing activations",
    )
    yield (
        {"zero_stage": 3, "offload_optimizer": "cpu", "offload_param": "cpu", **recompute},
        "ZeRO 3 with weights and optimizer in main memory, recomputing activations: slow",
    )


def _with(
    config: TrainConfig,
    keys: Mapping[str, object],
    model_config: Mapping[str, Any],
    hardware: Hardware,
) -> Estimate:
    changed = TrainConfig.model_validate({**config.model_dump(), **keys})
    return estimate(changed, model_config, hardware)


def _told(answer: Estimate) -> str:
    capacity = f" of {gib(answer.capacity)}" if answer.capacity is not None else ""
    return f"About {gib(answer.bytes_per_rank)}{capacity} a rank: {answer.verdict}."
