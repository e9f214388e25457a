"""Out of memory: how it is recognized, what is said, and how a step is cut smaller."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from runners.config import TrainConfig
from runners.errors import JobFailedError, MftError
from runners.hardware.estimate import estimate
from runners.hardware.probe import Hardware, detect
from runners.train.order import Spread

GIB = 1 << 30
_CUT = "micro-batch.json"
NO_RESTART = -1
"""``Cut.restart`` of a cut that the same process goes on with."""

_NO_ROOM = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class MemoryMeter:
    """What this rank held at its peak, to stand beside the estimate.

    On a GPU what torch allocated there. On CPU the growth of the process since the meter was made,
    because the estimate counts tensors and not the interpreter with its libraries.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = psutil.Process().memory_info().rss

    def peak(self) -> int:
        """Bytes."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return max(_peak_resident() - self._before, 0)


def _peak_resident() -> int:
    """Bytes. Not getrusage's: that one remembers what the launcher had before exec."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux
        return psutil.Process().memory_info().rss
    kib = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) * 1024


def expected_memory(
    config: TrainConfig,
    model: Mapping[str, Any],
    spread: Spread | None = None,
    hardware: Hardware | None = None,
) -> int | None:
    """The estimated peak of one rank's tensors, bytes; None for a model that cannot be estimated.

    Tensors alone, because that is what a ``MemoryMeter`` sees: torch counts neither the CUDA
    context nor what its allocator loses. ``spread`` is the run's own where it was cut smaller than
    the config has it.
    """
    if spread is not None:
        config = config.model_copy(
            update={
                "per_device_train_batch_size": spread.micro_batch,
                "gradient_accumulation_steps": spread.accumulation,
            }
        )
    try:
        return estimate(config, model, hardware or detect()).rank.parts.tensors
    except MftError:
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """True for what torch raises when a GPU or the main memory has no room left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _NO_ROOM)


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


@dataclass(frozen=True)
class Cut:
    """What a rank that ran out of memory leaves for the restart of all ranks.

    ``restart`` counts the launcher's restarts when it was written, so that a restart for any other
    reason can be told from one that is to go on with ``spread``; it is ``NO_RESTART`` where the
    process went on by itself, and only a resume reads it.
    """

    spread: Spread
    restart: int

    @classmethod
    def read(cls, folder: Path) -> "Cut | None":
        """The cut in ``folder``; None when there is none."""
        try:
            found = json.loads((folder / _CUT).read_bytes())
        except OSError:
            return None
        return cls(Spread(**found["spread"]), found["restart"])

    def write(self, folder: Path) -> None:
        """Put it into ``folder``; of several ranks that ran out at once, any may be last."""
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{_CUT}.{os.getpid()}"
        draft.write_text(json.dumps(asdict(self)))
        draft.rename(folder / _CUT)


def restarts(environ: Mapping[str, str] = os.environ) -> int:
    """How often the launcher has started this job's ranks again."""
    return int(environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def refuse_other_restarts(folder: Path) -> None:
    """Raise ``JobFailedError`` when the launcher starts ranks again that did not lack memory."""
    cut = Cut.read(folder)
    if restarts() and (cut is None or cut.restart != restarts() - 1):
        raise JobFailedError(
            "the run ended, and not for want of memory, so it is not started again",
            fix="What ended it is said above, in the run's console.",
        )


def out_of_memory(config: TrainConfig, model: Mapping[str, Any], during: str) -> JobFailedError:
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
        f"there was not enough memory for {during}.{told}",
        where=during,
        fix="Any of these helps: " + "; ".join(fixes) + ".",
    )


def _usual_changes(config: TrainConfig) -> list[str]:
    changes = []
    if (rows := config.per_device_train_batch_size) > 1:
        steps = config.gradient_accumulation_steps
        kept = f" with gradient_accumulation_steps={steps * 2}"
        changes.append(
            f"per_device_train_batch_size={rows // 2}"
            f"{kept if config.global_batch_size is None else ''}, or auto_batch_size=true"
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
