"""Two real optimizer steps of a tiny model, with the bytes of live tensors counted.

The model is loaded, adapted, fed, scored and stepped by the functions that training itself uses.
The second step is the one that counts: the optimizer's state is there from its first step on.
"""

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from runners.config import TrainConfig
from runners.data.batch import Batch
from runners.models.load import Precision, add_adapters, attention_way, load_base
from runners.train.inputs import Inputs, make_inputs
from runners.train.model import WeightedLoss
from runners.train.module import checkpoint_activations
from runners.train.optimizer import make_optimizer
from runners.train.weights import StepWeights
from tests.runners.hardware.live_bytes import LiveBytes

CPU = torch.device("cpu")
TRAINED_SHARE = 0.75
SEGMENTS = {"padding": 1, "pack": 4}
"""Samples a row."""


@dataclass(frozen=True)
class Measured:
    """Bytes: of weights and adapters before the first step, kept by a forward pass, at the peak."""

    weights: int
    activations: int
    peak: int


def measure(folder: Path, shape: dict[str, Any], config: TrainConfig) -> Measured:
    """Make the tiny model of ``shape`` in ``folder`` and train it by ``config`` for two steps."""
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    made = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**shape))
    made.save_pretrained(folder)
    del made
    model = load_base(folder, config, Precision(torch.float32, torch.float32), CPU)
    if config.gradient_checkpointing != "off":
        checkpoint_activations(model, selective=config.gradient_checkpointing == "selective")
    trained = model if config.peft_type == "full" else add_adapters(model, config, folder)
    module = WeightedLoss(trained, tasks=1)
    module.train()
    optimizer = make_optimizer(module, config, CPU)
    gc.collect()
    with LiveBytes(_tensors_of(module)) as live:
        weights = live.now
        activations = 0
        for _ in range(2):
            live.peak = live.now
            for _ in range(config.gradient_accumulation_steps):
                inputs = _inputs(config, int(model.config.vocab_size))
                before = live.now
                loss, _ = module(inputs)
                activations = live.now - before
                loss.backward()
                del loss, inputs
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            peak = live.peak
    return Measured(weights, activations, peak)


def _tensors_of(module: torch.nn.Module) -> list[torch.Tensor]:
    found = [*module.parameters(), *module.buffers()]
    for parameter in module.parameters():
        state = getattr(parameter, "quant_state", None)
        while state is not None:
            found += [state.absmax, state.code]
            state = state.state2
        found += [scale for scale in (getattr(parameter, "SCB", None),) if scale is not None]
    return found


def _inputs(config: TrainConfig, vocabulary: int) -> Inputs:
    rows, length = config.per_device_train_batch_size, config.seq_length
    segments = SEGMENTS[config.padding_mode]
    piece = length // segments
    at = np.arange(length) % piece
    shape = (rows, length)
    numbers = np.arange(rows * segments).reshape(rows, segments)
    batch = Batch(
        input_ids=np.random.default_rng(0).integers(3, vocabulary, shape),
        loss_mask=np.broadcast_to(at >= piece * (1 - TRAINED_SHARE), shape).copy(),
        position_ids=np.broadcast_to(at, shape).copy(),
        segment_ids=np.broadcast_to(1 + np.arange(length) // piece, shape).astype(np.int32),
        task_ids=np.zeros(shape, np.int32),
        sample_ids=numbers.repeat(piece, axis=1),
    )
    count = rows * segments
    weights = StepWeights(
        samples=np.arange(count),
        weights=np.full(count, 1 / (rows * length)),
        task_tokens=np.array([int(batch.loss_mask.sum())]),
    )
    way = attention_way(config)
    return make_inputs(
        batch,
        weights,
        flat=way == "flat",
        device=CPU,
        mask_dtype=torch.float32 if way == "eager" else None,
    )
