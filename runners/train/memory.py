"""Out of memory: how it is recognized, what is said, and how a step is cut smaller."""

from collections.abc import Mapping
from typing import Any

import torch

from runners.config import TrainConfig
from runners.errors import JobFailedError, MftError
from runners.hardware.estimate import estimate
from runners.hardware.probe import detect
from runners.train.order import Spread

GIB = 1 << 30


def is_out_of_memory(error: BaseException) -> bool:
    """True for what torch raises when a GPU or the main memory has no room left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def cut_smaller(spread: Spread) -> Spread | None:
    """The same rows a step in smaller micro-batches; None when they have one row already.

    Halves the micro-batch where it is even; otherwise divides by its smallest factor, because the
    global batch must stay what was asked for.
    """
    rows = spread.micro_batch
    factor = next((n for n in range(2, rows + 1) if rows % n == 0), None)
    if factor is None:
        return None
    return Spread(spread.ranks, rows // factor, spread.accumulation * factor)


def out_of_memory(config: TrainConfig, model: Mapping[str, Any], step: int) -> JobFailedError:
    """The error that ends the job: the estimate, and changes that would make it fit."""
    told, fixes = "", []
    try:
        found = estimate(config, model, detect())
    except MftError:
        pass  # an estimate that cannot be made must not hide what happened
    else:
        told = f" The estimate for one rank is {found.bytes_per_rank / GIB:.1f} GiB"
        told += f" of {found.capacity / GIB:.1f} GiB." if found.capacity else "."
        fixes = [f"{s.text} ({s.bytes_per_rank / GIB:.1f} GiB)" for s in found.suggestions[:3]]
    if len(fixes) < 3:
        fixes += _usual_changes(config)[: 3 - len(fixes)]
    return JobFailedError(
        f"there was not enough memory for step {step}.{told}",
        where=f"step {step}",
        fix="Any of these helps: " + "; ".join(fixes) + ".",
    )


def _usual_changes(config: TrainConfig) -> list[str]:
    changes = []
    if (rows := config.per_device_train_batch_size) > 1:
        steps = config.gradient_accumulation_steps
        changes.append(
            f"per_device_train_batch_size={rows // 2} with gradient_accumulation_steps="
            f"{steps * 2}, or auto_batch_size=true"
        )
    if config.gradient_checkpointing != "full":
        changes.append("gradient_checkpointing=full")
    if config.peft_type == "full":
        changes.append("peft_type=lora")
    elif config.peft_type == "lora":
        changes.append("peft_type=qlora")
    changes.append(f"seq_length={config.seq_length // 2}")
    changes.append("offload_optimizer=cpu")
    return changes
