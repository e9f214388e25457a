"""The training job with one thing going wrong inside a step, on one rank alone.

python disturbed.py RUN_FOLDER, with DISTURB in the environment: "stop" sends SIGTERM between two
micro-batches, "nan" makes a loss NaN, "full" has no memory for more than one row at a time,
"full validation" and "full loading" none for that; "stop validation" sends SIGTERM in the first;
"shard" is no trouble, but makes the head's chunks tiny, has ZeRO-3 shard even the smallest weight,
and wants all weights shared out before DeepSpeed's engine sees them. RANK_OF names the rank, AFTER
counts its micro-batches. LONG_STEP is how many seconds make a step long.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch

from runners.config import TrainConfig
from runners.lifecycle.job import run_job
from runners.train import cross_entropy, engine, loop, setup
from runners.train.__main__ import work

WHAT = os.environ["DISTURB"]
HERE = os.environ.get("RANK", "0") == os.environ.get("RANK_OF", "0")
AFTER = int(os.environ.get("AFTER", "1"))
passes = 0


def count() -> bool:
    """Whether this is the micro-batch in which it happens."""
    global passes
    passes += 1
    return HERE and passes == AFTER


def stopping(backward: Callable[..., None]) -> Callable[..., None]:
    def run(self: Any, loss: Any, *, last: bool) -> None:
        backward(self, loss, last=last)
        if count():
            os.kill(os.getpid(), signal.SIGTERM)

    return run


def not_finite(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: Any, inputs: Any, **more: Any) -> Any:
        loss, sums = forward(self, inputs, **more)
        return (loss * float("nan"), sums) if self.module.training and count() else (loss, sums)

    return run


def full(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: Any, inputs: Any, **more: Any) -> Any:
        rows = len(inputs.model["segments"].edges) - 1
        if HERE and self.module.training and rows > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. (for a test)")
        return forward(self, inputs, **more)

    return run


def in_validation(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: Any, inputs: Any, **more: Any) -> Any:
        if not self.module.training and count():
            if WHAT == "full validation":
                raise RuntimeError("CUDA error: out of memory (for a test)")
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, inputs, **more)

    return run


def no_room(*_: Any, **__: Any) -> Any:
    raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED (for a test)")


def sharded(settings: Callable[..., Any]) -> Callable[..., Any]:
    def make(*given: Any) -> Any:
        found = settings(*given)
        # What ZeRO-3 keeps whole, or until its next use, hides how often ranks gather it.
        for key in ("param_persistence_threshold", "max_live_parameters", "max_reuse_distance"):
            found["zero_optimization"][f"stage3_{key}"] = 0
        return found

    return make


def never_whole(make: Callable[..., None]) -> Callable[..., None]:
    def run(self: Any, accelerator: Any, module: Any, *more: Any) -> None:
        if accelerator.state.deepspeed_plugin.zero_stage == 3:
            shares = [parameter.numel() == 0 for parameter in module.parameters()]
            assert all(shares), "DeepSpeed's engine would move whole parameters to every GPU"
        make(self, accelerator, module, *more)

    return run


if __name__ == "__main__":
    loop.LONG_STEP = float(os.environ.get("LONG_STEP", "10"))
    if WHAT == "shard":
        cross_entropy.CHUNK_LOGITS = 2000
        setup.deepspeed_settings = sharded(setup.deepspeed_settings)
        made = never_whole(engine.DeepSpeedEngine.__init__)
        engine.DeepSpeedEngine.__init__ = made  # type: ignore[method-assign]
    if WHAT == "full loading":
        setup.load_base = no_room
    for kind in (engine.PlainEngine, engine.DeepSpeedEngine):
        if WHAT == "stop":
            kind.backward = stopping(kind.backward)  # type: ignore[method-assign]
        elif WHAT in {"nan", "full", "full validation", "stop validation"}:
            around = {"nan": not_finite, "full": full}.get(WHAT, in_validation)
            kind.forward = around(kind.forward)  # type: ignore[method-assign]
    sys.exit(run_job("train", TrainConfig, work))
