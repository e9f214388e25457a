"""The training job: ``accelerate launch … -m runners.train RUN_FOLDER``."""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from runners.config import TrainConfig
from runners.lifecycle.job import Job, run_job
from runners.models.families import read_model_config
from runners.models.load import fetch_base
from runners.train import loop
from runners.train.export import export_weights
from runners.train.memory import (
    expected_memory,
    is_out_of_memory,
    out_of_memory,
    refuse_other_restarts,
)
from runners.train.setup import Setup


def make_ready(job: Job[TrainConfig], output: Path) -> tuple[Setup, loop.Training]:
    """Model, data and engine, ready to train; no room for them is told as in a step."""
    try:
        setup = Setup(job, output)
        return setup, setup.training()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        model = read_model_config(fetch_base(job.config.pretrained_model_path))
        raise out_of_memory(job.config, model, "loading the model") from error


def work(job: Job[TrainConfig]) -> Mapping[str, object]:
    """Train, and leave an adapter or a model in ``final`` with its tokenizer."""
    output = job.output_folder(job.config.output_dir)
    refuse_other_restarts(output / "checkpoints")
    setup, training = make_ready(job, output)
    began = training.done
    ending = loop.run(training)
    for sink in training.sinks:
        sink.close()
    if ending == "stopped":
        return {}
    summary: dict[str, object] = {"steps": training.done, "ended": ending, "resumed_from": began}
    summary["peak_memory_bytes"] = setup.meter.peak()
    summary["estimated_memory_bytes"] = expected_memory(
        job.config, setup.model_config, training.order.spread
    )
    best = setup.checkpoints.best()
    take_best = job.config.early_stopping and best is not None and best.step != training.done
    weights = {}
    # Gathering is a collective under ZeRO: every rank goes through it, rank 0 keeps the tensors.
    for name, found in training.engine.tensors():
        if setup.leader:
            weights[name] = found["weight"]
    if take_best and best is not None:
        weights = {name: found["weight"] for name, found in best.tensors()}
        job.events.notice("info", f"the weights are those of step {best.step}, the best validated")
        summary["best_step"] = best.step
    if setup.leader:
        half = setup.accelerator.mixed_precision
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(half)
        target = output / "final"
        export_weights(setup.model, weights, target, setup.base.folder, dtype)
        adapter = job.config.peft_type != "full"
        job.record_artifact("adapter" if adapter else "model", target)
        summary["model"] = str(target)
    setup.accelerator.wait_for_everyone()
    return summary


if __name__ == "__main__":
    sys.exit(run_job("train", TrainConfig, work))
