"""Writes the table of docs/memory.md: `python -m tests.runners.hardware.memory_table`."""

from collections.abc import Iterator
from pathlib import Path

from runners.config import TrainConfig
from runners.hardware.estimate import Estimate, estimate
from runners.hardware.host import Cpus, HostMemory
from runners.hardware.probe import Hardware, with_gpus
from tests.runners.hardware.shapes import CODELLAMA_34B, QWEN25_7B, QWEN_1_8B

PAGE = Path(__file__).resolve().parents[3] / "docs/memory.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
GIB = 1 << 30
MODELS = {"Qwen-1.8B": QWEN_1_8B, "Qwen2.5-7B": QWEN25_7B, "CodeLlama-34B": CODELLAMA_34B}
HOST = Hardware((), (), Cpus(None, 64, 64, 64, None), HostMemory(1024 * GIB, 1000 * GIB, None))
MARKS = {"fits": "fits", "tight": "tight", "does not fit": "no"}


def one(model: str, method: str, zero: int, gpus: int, gigabytes: int) -> Estimate:
    """The estimate of one cell."""
    config = TrainConfig.model_validate(
        {
            "data_paths": ["data"],
            "pretrained_model_path": model,
            "peft_type": method,
            "zero_stage": zero,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 8,
            "seq_length": 4096,
            "padding_mode": "pack",
            "gradient_checkpointing": "full",
            "mixed_precision": "bf16",
        }
    )
    return estimate(config, MODELS[model], with_gpus(HOST, gpus, gigabytes * GIB))


def rows() -> Iterator[str]:
    """The table's lines."""
    yield "| model | method | ZeRO | 1 GPU | 24 GB | 80 GB | 8 GPUs | 24 GB | 80 GB |"
    yield "| --- | --- | --- | ---: | --- | --- | ---: | --- | --- |"
    for model in MODELS:
        for method in ("lora", "qlora", "full"):
            for zero in (0, 2, 3):
                cells = []
                for gpus in (1, 8):
                    small, large = (one(model, method, zero, gpus, size) for size in (24, 80))
                    need = small.bytes_per_rank / GIB
                    cells += [f"{need:.1f}", MARKS[small.verdict], MARKS[large.verdict]]
                yield f"| {model} | {method} | {zero} | {' | '.join(cells)} |"


def table() -> str:
    """The table as it belongs between the marks."""
    return "\n".join([BEGIN, *rows(), END])


def current() -> str:
    """The table that the page has now."""
    text = PAGE.read_text(encoding="utf-8")
    return text[text.index(BEGIN) : text.index(END) + len(END)]


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text.replace(current(), table()), encoding="utf-8")
