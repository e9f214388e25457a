"""The estimate beside what torch counts in a real training step on this CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.config import TrainConfig
from runners.hardware.host import Cpus, HostMemory
from runners.hardware.memory import rank_memory
from runners.hardware.probe import Hardware
from runners.hardware.recipe import make_recipe
from runners.hardware.shape import read_shape
from tests.runners.hardware.shapes import TINY

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

NO_GPU = Hardware((), (), Cpus(None, 2, 2, 2, None), HostMemory(1 << 35, 1 << 35, None))

SETTINGS: dict[str, dict[str, Any]] = {
    "full": {"peft_type": "full"},
    "full, eager attention": {"peft_type": "full", "attention": "eager"},
    "full, recomputing": {"peft_type": "full", "gradient_checkpointing": "full"},
    "full, recomputing in part": {"peft_type": "full", "gradient_checkpointing": "selective"},
    "full, eager attention, recomputing in part": {
        "peft_type": "full",
        "attention": "eager",
        "gradient_checkpointing": "selective",
    },
    "full, accumulating": {"peft_type": "full", "gradient_accumulation_steps": 2},
    "full, short rows": {"peft_type": "full", "seq_length": 64, "per_device_train_batch_size": 1},
    "lora": {"peft_type": "lora"},
    "lora, no dropout, masked rows": {"peft_type": "lora", "lora_dropout": 0, "attention": "sdpa"},
    "lora, packed": {"peft_type": "lora", "padding_mode": "pack"},
    "lora, recomputing": {"peft_type": "lora", "gradient_checkpointing": "full"},
    "lora, recomputing in part": {"peft_type": "lora", "gradient_checkpointing": "selective"},
    "dora": {"peft_type": "lora", "use_dora": True},
    "qlora 4-bit": {"peft_type": "qlora"},
    "qlora 8-bit": {"peft_type": "qlora", "quantization": "8bit"},
    "qlora 4-bit, packed, recomputing": {
        "peft_type": "qlora",
        "padding_mode": "pack",
        "gradient_checkpointing": "full",
    },
}

OTHER_SHAPES = [("gpt_neox", "full"), ("gpt_bigcode", "lora"), ("glm", "lora")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def compare(tmp_path: Path, family: str, settings: dict[str, Any]) -> None:
    from tests.runners.hardware.real_step import SEGMENTS, TRAINED_SHARE, measure

    chosen = {"seq_length": 256, "per_device_train_batch_size": 4, "lora_rank": 16, **settings}
    config = TrainConfig(
        data_paths=[tmp_path], pretrained_model_path="tiny", use_cpu=True, **chosen
    )
    shape = read_shape(TINY[family])
    segment = config.seq_length / SEGMENTS[config.padding_mode]
    recipe = make_recipe(config, shape, NO_GPU, trained_share=TRAINED_SHARE, segment=segment)
    estimated = rank_memory(shape, recipe).parts
    measured = measure(tmp_path / "model", TINY[family], config)
    assert estimated.weights + estimated.adapters == pytest.approx(measured.weights, rel=0.03)
    assert estimated.tensors == pytest.approx(measured.peak, rel=0.15)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_estimate_is_within_15_percent_of_what_torch_counts(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    compare(tmp_path, "qwen2", settings)


@pytest.mark.parametrize(("family", "method"), OTHER_SHAPES)
def test_other_shapes_are_estimated_as_well(tmp_path: Path, family: str, method: str) -> None:
    compare(tmp_path, family, {"peft_type": method})


@pytest.mark.parametrize(
    ("family", "embedding", "head"),
    [
        ("qwen2", "embed_tokens", "lm_head"),
        ("gpt_neox", "embed_in", "lm_head"),
        ("gpt_bigcode", "wte", "lm_head"),  # tied: one table
    ],
)
def test_embedding_and_head_trained_whole_are_estimated_as_well(
    tmp_path: Path, family: str, embedding: str, head: str
) -> None:
    compare(tmp_path, family, {"peft_type": "lora", "modules_to_save": [embedding, head]})


@pytest.mark.full
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("family", TINY)
def test_every_family_under_every_setting(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    compare(tmp_path, family, settings)
