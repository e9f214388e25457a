"""Trained tokens a second: against TRL's SFTTrainer, and packed against the padded layout.

Ratios within one run on one machine. The GPU rows need a GPU:

    pytest --bench tests/bench/test_training_speed.py -k gpu
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from runners.config import TrainConfig
from runners.data.batch import Batch, collate
from runners.data.cache import build_cache
from runners.data.ordering import Indices
from runners.data.plan import StepPlan, plan_epoch
from runners.data.token_cache import TokenCache
from runners.lifecycle.events import EventWriter
from runners.models import segments
from runners.train import loop
from runners.train.batching import Batcher
from runners.train.checkpoint import CheckpointFolder
from runners.train.engine import PlainEngine
from runners.train.model import WeightedLoss
from runners.train.module import checkpoint_activations
from runners.train.order import DataOrder, Spread
from runners.train.schedule import Schedule
from runners.train.setup import make_accelerator
from runners.train.sinks import EventSink
from runners.train.speed import step_flops
from runners.train.tally import Interval
from runners.train.validation import EarlyStopping

pytestmark = [pytest.mark.bench, pytest.mark.slow]

LENGTH = 1024
STEPS = 6
SAMPLES = 2000


@pytest.fixture(scope="module")
def stdlib(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The three task folders made of Python's standard library."""
    root = tmp_path_factory.mktemp("stdlib")
    subprocess.run([sys.executable, shared / "tools" / "stdlib_tasks.py", root], check=True)
    return sorted(folder for folder in root.iterdir() if folder.is_dir())


@pytest.fixture(scope="module")
def model_config() -> Qwen2Config:
    return Qwen2Config(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=151_936,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
    )


def config_for(stdlib: list[Path], cache: Path, **more: Any) -> TrainConfig:
    values = {
        "seq_length": LENGTH,
        "cache_dir": cache,
        "per_device_train_batch_size": 2,
        "num_workers": 1,
        "max_train_steps": STEPS + 1,
        "evaluation_steps": 0,
        "checkpointing_steps": None,
        "epoch_checkpointing": False,
        "log_interval": 1,
        **more,
    }
    return TrainConfig(data_paths=stdlib, pretrained_model_path="unused", **values)


def chosen_samples(cache: TokenCache) -> Indices:
    return np.arange(0, len(cache), max(1, len(cache) // SAMPLES))


def plans(cache: TokenCache, config: TrainConfig) -> Iterator[StepPlan]:
    epoch = plan_epoch(
        cache, chosen_samples(cache), mode=config.padding_mode,
        seq_length=config.seq_length, micro_batch=config.per_device_train_batch_size,
        accumulation=1, ranks=1, seed=0, epoch=0,
    )  # fmt: skip
    return (epoch[step] for step in range(len(epoch)))


class Clock:
    """A sink that notes when each step ended, and how many tokens had been trained by then."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.trained: list[float] = []

    def progress(self, done: int, total: int) -> None:
        self.times.append(time.perf_counter())

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.trained.append(sum(v for k, v in values.items() if k.startswith("trained_tokens/")))

    def close(self) -> None:
        """Nothing to close."""

    def rate(self) -> float:
        """Trained tokens a second. The first step only warms up."""
        return sum(self.trained[1:]) / (self.times[-1] - self.times[0])


def trained_tokens_a_second(
    cache: TokenCache, config: TrainConfig, model_config: Qwen2Config, folder: Path
) -> float:
    """Of the training loop itself, with its engine, tally, log and event file."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(model_config, attn_implementation=segments.NAME)
    module = WeightedLoss(model, len(cache.tasks))
    engine = PlainEngine(
        make_accelerator(config, {"ACCELERATE_USE_CPU": "true"}),
        module,
        torch.optim.AdamW(module.parameters(), lr=1e-4),
        clip=1.0,
    )
    order = DataOrder(cache, chosen_samples(cache), config, Spread(1, 2, 1))
    clock = Clock()
    with EventWriter(folder / "events.jsonl") as events:
        training = loop.Training(
            config=config,
            engine=engine,
            module=module,
            batcher=Batcher(cache, config, pad_id=0, flat=True, device=engine.device),
            order=order,
            schedule=Schedule("constant", 1e-4, 0.0, 0, order.total),
            checkpoints=CheckpointFolder(folder / "checkpoints", None),
            interval=Interval(cache.tasks),
            early=EarlyStopping(cache.tasks, 1, "total"),
            sinks=[clock, EventSink(events)],
            stopping=lambda: False,
            valid=np.empty(0, np.int64),
        )
        assert loop.run(training) == "finished"
    assert len(clock.times) == STEPS + 1
    return clock.rate()


def reference_tokens_a_second(
    cache: TokenCache, config: TrainConfig, model_config: Qwen2Config
) -> float:
    """Of the reference's step: rows padded to seq_length, logits of every position."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(model_config, attn_implementation="sdpa")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    trained, began = 0, 0.0
    for number, plan in zip(range(STEPS + 1), plans(cache, config), strict=False):
        if number == 1:
            trained, began = 0, time.perf_counter()
        batch = collate(
            cache, list(plan.all_rows()), seq_length=config.seq_length, dynamic=False, pad_id=0
        )
        mask = torch.from_numpy(batch.loss_mask[:, 1:])
        ids = torch.from_numpy(batch.input_ids)
        real = torch.from_numpy(batch.segment_ids > 0)
        logits = model(ids, attention_mask=real, use_cache=False).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none"
        )
        (losses * mask.flatten()).sum().div(mask.sum()).backward()
        trained += int(mask.sum())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return trained / (time.perf_counter() - began)


def test_packed_against_the_padded_reference_layout(
    stdlib: list[Path],
    shared: Path,
    model_config: Qwen2Config,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    tokenizer = shared / "tokenizers" / "qwen3"
    packed_config = config_for(stdlib, tmp_path, padding_mode="pack")
    cache = build_cache(packed_config, tokenizer)
    # The reference pads every row to seq_length and makes the logits of every position.
    padded_config = config_for(stdlib, tmp_path, padding_mode="padding", use_dynamic_padding=False)
    padded = reference_tokens_a_second(cache, padded_config, model_config)
    packed = trained_tokens_a_second(cache, packed_config, model_config, tmp_path)
    ratio = packed / padded
    record_property("packed_over_padded", ratio)
    print(f"\npacked {packed:.0f}, padded {padded:.0f} trained tokens/s: ratio {ratio:.2f}")
    assert ratio >= 2.5


def test_against_trl(
    stdlib: list[Path],
    shared: Path,
    model_config: Qwen2Config,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    if importlib.util.find_spec("trl") is None:
        pytest.skip("needs TRL to compare with: pip install trl datasets")
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    tokenizer_folder = shared / "tokenizers" / "qwen3"
    config = config_for(stdlib, tmp_path / "cache", padding_mode="pack")
    cache = build_cache(config, tokenizer_folder)
    ours = trained_tokens_a_second(cache, config, model_config, tmp_path)

    rows: list[dict[str, list[int]]] = []
    for index in chosen_samples(cache).tolist():
        ids, mask = cache.sample(index)
        rows.append({"input_ids": ids.tolist(), "completion_mask": mask.astype(int).tolist()})
    times: list[float] = []
    counts: list[int] = []

    class StepTimes(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    class Counting(SFTTrainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            labels = inputs["labels"]
            counts.append(int((labels[..., 1:] != -100).sum()))
            return super().compute_loss(model, inputs, *rest, **more)

    torch.manual_seed(0)
    trainer = Counting(
        model=AutoModelForCausalLM.from_config(model_config, attn_implementation="sdpa"),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(tokenizer_folder),
        callbacks=[StepTimes()],
        args=SFTConfig(
            output_dir=str(tmp_path / "trl"), max_steps=STEPS + 1, packing=True,
            max_length=LENGTH, per_device_train_batch_size=2, learning_rate=1e-4, use_cpu=True,
            bf16=False, report_to=[], save_strategy="no", logging_strategy="no",
            completion_only_loss=True, gradient_checkpointing=False, lr_scheduler_type="constant",
        ),
    )  # fmt: skip
    trainer.train()
    theirs = sum(counts[1:]) / (times[-1] - times[0])
    ratio = ours / theirs
    record_property("ours_over_trl", ratio)
    print(f"\nours {ours:.0f}, TRL {theirs:.0f} trained tokens/s: ratio {ratio:.2f}")
    assert ratio >= 1.0


SHAPES: dict[str, dict[str, Any]] = {
    "1.5B": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "7B": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": False,
    },
}  # fmt: skip


ROWS = {"1.5B": 4, "7B": 2}
"""Rows of 4,096 a step: what the results kept of every matmul leave room for in 80 GB."""


def packed_rows(*, rows: int, length: int, segment: int, vocabulary: int) -> Batch:
    """Full rows of equal segments of random tokens, every token but a segment's first trained."""
    shape = (rows, length)
    position = np.tile(np.arange(length) % segment, (rows, 1)).astype(np.int64)
    number = (np.arange(length) // segment)[None, :]
    return Batch(
        input_ids=np.random.default_rng(0).integers(0, vocabulary, shape),
        loss_mask=position > 0,
        position_ids=position,
        segment_ids=np.tile(number + 1, (rows, 1)).astype(np.int32),
        task_ids=np.zeros(shape, np.int32),
        sample_ids=number + np.arange(rows)[:, None] * (length // segment),
    )


@pytest.mark.parametrize(("shape", "bar"), [("1.5B", 0.35), ("7B", 0.45)])
@pytest.mark.parametrize("quantization", [None, "4bit"], ids=["lora", "qlora"])
def test_gpu_utilisation(
    shape: str, bar: float, quantization: str | None, tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    """MFU and peak memory of packed LoRA training at 4,096, random weights, on one GPU."""
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU; measures MFU and peak memory of 1.5B and 7B shapes")
    from peft import LoraConfig, get_peft_model

    from runners.hardware.peaks import peak_flops
    from runners.models.load import quantization as bits
    from runners.train.inputs import make_inputs
    from runners.train.weights import step_weights

    peak = peak_flops(torch.cuda.get_device_name())
    if peak is None:
        pytest.skip(f"the peak of {torch.cuda.get_device_name()} is not known")
    dimensions = {"model_type": "qwen2", "vocab_size": 151_936, **SHAPES[shape]}
    folder = tmp_path / shape
    config = Qwen2Config(**{k: v for k, v in dimensions.items() if k != "model_type"})
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=segments.NAME)
        torch.set_default_dtype(torch.float32)
    if quantization:
        model.save_pretrained(folder)
        del model
        model = AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation=segments.NAME, dtype=torch.bfloat16, device_map={"": 0},
            quantization_config=bits(quantization, torch.bfloat16),
        )  # fmt: skip
    # Recomputing everything would count a third of the work as none; only the rest is made again.
    checkpoint_activations(model, selective=True)
    model.requires_grad_(False)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    module = WeightedLoss(get_peft_model(model, LoraConfig(r=32, target_modules=targets)), 1)
    # What was loaded is in evaluation mode, in which nothing is recomputed.
    module.train()
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], fused=True)
    rows = ROWS[shape]
    batch = packed_rows(rows=rows, length=4096, segment=512, vocabulary=151_936)
    count = rows * (4096 // 512)
    weights = step_weights(np.arange(count), np.full(count, 511), np.zeros(count, int), 1, "case3")
    inputs = make_inputs(batch, weights, flat=True, device=torch.device("cuda"))
    torch.cuda.reset_peak_memory_stats()
    for step in range(8):
        if step == 3:
            torch.cuda.synchronize()
            began = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16):
            module(inputs)[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / 5
    useful = step_flops(
        dimensions, full=False, tokens=inputs.tokens, squares=inputs.squares,
        trained=len(inputs.targets),
    )  # fmt: skip
    mfu, peak_bytes = useful / seconds / peak, torch.cuda.max_memory_allocated()
    record_property("mfu", mfu)
    record_property("peak_memory_bytes", peak_bytes)
    told = {"shape": shape, "quantization": quantization, "mfu": mfu, "peak_bytes": peak_bytes}
    print(f"\n{json.dumps(told)}  ({os.uname().nodename})")
    assert mfu >= bar
