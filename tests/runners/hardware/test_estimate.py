"""Verdicts, suggestions, steps and time, and that memory moves the way it must."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.config import TrainConfig
from runners.errors import UsageError
from runners.hardware.estimate import Estimate, estimate
from runners.hardware.gpus import GpuMemory
from runners.hardware.host import Cpus, HostMemory
from runners.hardware.memory import rank_memory
from runners.hardware.peaks import find_model, peak_flops
from runners.hardware.probe import Hardware, with_gpus
from runners.hardware.recipe import make_recipe
from runners.hardware.shape import read_shape
from runners.hardware.speed import DataCounts
from runners.hardware.suggest import suggest
from tests.runners.hardware import memory_table
from tests.runners.hardware.shapes import CODELLAMA_34B, QWEN25_7B, QWEN_1_8B, TINY

GIB = 1 << 30
CPU_ONLY = Hardware((), (), Cpus(None, 64, 64, 64, None), HostMemory(512 * GIB, 500 * GIB, None))


def gpus(count: int, gigabytes: int, name: str = "NVIDIA A100") -> Hardware:
    return with_gpus(CPU_ONLY, count, gigabytes * GIB, name=name)


def config(**keys: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "data_paths": ["data"],
            "pretrained_model_path": "model",
            "seq_length": 2048,
            "gradient_checkpointing": "full",
            **keys,
        }
    )


def ask(model: dict[str, Any], hardware: Hardware, **keys: Any) -> Estimate:
    return estimate(config(**keys), model, hardware)


def test_the_table_in_the_documentation_is_current() -> None:
    assert memory_table.current() == memory_table.table(), (
        "run `python -m tests.runners.hardware.memory_table`"
    )


def test_markers_that_the_tokenizer_lacks_have_embedding_and_head_trained_whole(
    tmp_path: Path,
) -> None:
    def trained(*, added: list[str], tied: bool = False, method: str = "lora") -> int:
        tokens = [{"content": text, "id": 10 + i} for i, text in enumerate(added)]
        content = {"model": {"vocab": {"a": 0}}, "added_tokens": tokens}
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        model = {**CODELLAMA_34B, "tie_word_embeddings": tied}
        keys = {"pretrained_model_path": str(tmp_path), "peft_type": method}
        return ask(model, gpus(8, 80), **keys).rank.trainable

    chat = ["<|im_start|>", "<|im_end|>"]
    table = CODELLAMA_34B["vocab_size"] * CODELLAMA_34B["hidden_size"]
    adapters = trained(added=chat)
    assert trained(added=[]) == adapters + 2 * table
    assert trained(added=chat[:1], tied=True) == adapters + table
    assert trained(added=[], method="full") == trained(added=chat, method="full")


def test_full_training_holds_sixteen_bytes_a_parameter_and_shares_them_by_stage() -> None:
    parameters = read_shape(QWEN25_7B).parameters
    parts = {
        stage: ask(QWEN25_7B, gpus(8, 80), peft_type="full", zero_stage=stage).rank.parts
        for stage in (1, 2, 3)
    }
    assert parts[1].weights == parts[2].weights == 2 * parameters
    assert parts[3].weights == pytest.approx(2 * parameters / 8, rel=1e-6)
    for stage in (1, 2, 3):
        assert parts[stage].optimizer == pytest.approx(12 * parameters / 8, rel=1e-6)
    assert parts[1].gradients == 2 * parameters
    assert parts[2].gradients == pytest.approx(2 * parameters / 8, rel=1e-6)


def test_a_4_bit_base_takes_a_little_over_half_a_byte_a_matrix_entry() -> None:
    shape = read_shape(QWEN25_7B)
    weights = ask(QWEN25_7B, gpus(1, 24), peft_type="qlora").rank.parts.weights
    rest = 2 * (shape.parameters - shape.linear_weights)
    assert (weights - rest) / shape.linear_weights == pytest.approx(0.516, abs=0.001)


def test_adapters_count_rank_times_in_plus_out() -> None:
    answer = ask(QWEN25_7B, gpus(1, 80), peft_type="lora", lora_rank=8, lora_targets=["q_proj"])
    assert answer.rank.trainable == 28 * 8 * (3584 + 3584)


def test_offloading_moves_bytes_to_the_host_and_the_host_can_be_too_small() -> None:
    keys = {"peft_type": "full", "zero_stage": 3, "offload_optimizer": "cpu"}
    moved = ask(QWEN25_7B, gpus(8, 80), **keys)
    assert moved.rank.parts.optimizer == 0
    assert moved.rank.host >= 12 * read_shape(QWEN25_7B).parameters
    small = replace(gpus(8, 80), memory=HostMemory(32 * GIB, 30 * GIB, None))
    refused = ask(QWEN25_7B, small, **keys)
    assert refused.verdict == "does not fit"
    assert "main memory" in refused.reason


def test_what_fits_is_left_alone() -> None:
    answer = ask(QWEN_1_8B, gpus(1, 80), peft_type="lora")
    assert answer.verdict == "fits"
    assert answer.suggestions == answer.together == ()


def test_every_suggestion_fits_when_it_is_followed() -> None:
    keys: dict[str, Any] = {
        "peft_type": "lora",
        "per_device_train_batch_size": 4,
        "gradient_checkpointing": "off",
    }
    answer = ask(QWEN25_7B, gpus(1, 80), **keys)
    assert answer.verdict == "does not fit"
    assert answer.suggestions
    for suggestion in answer.suggestions:
        followed = ask(QWEN25_7B, gpus(1, 80), **{**keys, **suggestion.keys})
        assert followed.verdict == suggestion.verdict != "does not fit"
        assert followed.bytes_per_rank == suggestion.bytes_per_rank


def test_when_no_single_change_is_enough_several_are_named_and_fit_together() -> None:
    keys: dict[str, Any] = {
        "peft_type": "lora",
        "per_device_train_batch_size": 4,
        "seq_length": 4096,
        "gradient_checkpointing": "off",
    }
    answer = ask(QWEN25_7B, gpus(1, 24), **keys)
    assert answer.suggestions == ()
    assert len(answer.together) > 1
    for suggestion in answer.together:
        keys |= suggestion.keys
    assert ask(QWEN25_7B, gpus(1, 24), **keys).verdict != "does not fit"


def test_halving_the_micro_batch_keeps_the_global_batch() -> None:
    answer = ask(
        QWEN25_7B, gpus(1, 24), per_device_train_batch_size=8, gradient_accumulation_steps=3
    )
    changed = [s.keys for s in answer.suggestions if "per_device_train_batch_size" in s.keys]
    assert changed
    for keys in changed:
        rows, steps = keys["per_device_train_batch_size"], keys["gradient_accumulation_steps"]
        assert isinstance(rows, int)
        assert isinstance(steps, int)
        assert rows * steps == 24


def test_nothing_helps_where_nothing_can() -> None:
    answer = ask(CODELLAMA_34B, gpus(1, 2), peft_type="lora")
    assert answer.verdict == "does not fit"
    assert answer.suggestions == answer.together == ()


def test_memory_that_somebody_else_holds_is_told_beside_the_verdict() -> None:
    hardware = gpus(2, 80)
    taken = GpuMemory(total=80 * GIB, used=70 * GIB, free=10 * GIB)
    busy = replace(hardware, usable=(hardware.usable[0], replace(hardware.usable[1], memory=taken)))
    answer = ask(QWEN25_7B, busy)
    assert answer.verdict == "fits"
    assert answer.notices == ("GPU 1 has only 10.0 GiB free now: something else holds 70.0 GiB.",)


def test_more_ranks_than_gpus_and_rows_that_are_too_long_are_told() -> None:
    longest = {**QWEN25_7B, "max_position_embeddings": 1024}
    answer = ask(longest, gpus(2, 80), num_processes=4)
    assert len(answer.notices) == 2


def test_unknown_memory_gives_no_verdict() -> None:
    hardware = gpus(1, 24)
    blind = replace(hardware, usable=(replace(hardware.usable[0], memory=None),))
    assert ask(QWEN25_7B, blind).verdict == "unknown"


def test_steps_follow_from_the_counts() -> None:
    data = DataCounts(samples=1000, tokens=400_000, trained_tokens=200_000)
    keys = {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 2}
    padded = estimate(config(**keys), TINY["qwen2"], CPU_ONLY, data).speed
    assert padded.steps == 125
    packed = estimate(config(**keys, padding_mode="pack"), TINY["qwen2"], CPU_ONLY, data).speed
    assert packed.steps == 25
    short = estimate(config(**keys, max_train_steps=7), TINY["qwen2"], CPU_ONLY, data).speed
    assert short.steps == 7


def test_time_rests_on_a_known_peak_or_is_not_told() -> None:
    data = DataCounts(samples=1000, tokens=400_000, trained_tokens=400_000)
    known = estimate(config(), QWEN25_7B, gpus(1, 80), data).speed
    assert known.seconds is not None
    assert "40% of 312 TFLOP/s" in known.basis
    assert estimate(config(), QWEN25_7B, gpus(1, 80, "Mystery"), data).speed.seconds is None
    assert estimate(config(), TINY["qwen2"], CPU_ONLY, data).speed.seconds is None
    given_peak = estimate(config(peak_tflops=1.0), TINY["qwen2"], CPU_ONLY, data).speed
    assert given_peak.seconds is not None


def test_lora_counts_four_operations_a_weight_and_full_six() -> None:
    lora = ask(QWEN25_7B, gpus(1, 80), peft_type="lora").speed.flops_per_token
    full = ask(QWEN25_7B, gpus(1, 80), peft_type="full").speed.flops_per_token
    shape = read_shape(QWEN25_7B)
    matrices = shape.linear_weights + shape.vocab * shape.hidden
    assert full - lora == pytest.approx(2 * matrices)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("Tesla V100-SXM2-32GB", 125),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", None),
        ("AMD Instinct MI300X", None),
    ],
)
def test_a_driver_name_leads_to_the_data_sheet(name: str, teraflops: int | None) -> None:
    assert peak_flops(name) == (teraflops * 1e12 if teraflops else None)
    assert (find_model(name) is None) == (teraflops is None)


def test_adapters_that_land_nowhere_are_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match="attn") as caught:
        ask(QWEN25_7B, gpus(1, 80), lora_targets=["attn"])
    assert "down_proj" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 8),
    length=st.sampled_from([64, 256, 1024]),
    method=st.sampled_from(["lora", "qlora", "full"]),
    family=st.sampled_from(sorted(TINY)),
    count=st.sampled_from([1, 2, 8]),
)
def test_more_work_never_needs_less_and_more_sharing_never_needs_more(
    rows: int, length: int, method: str, family: str, count: int
) -> None:
    def need(**keys: Any) -> int:
        chosen = {
            "per_device_train_batch_size": rows,
            "seq_length": length,
            "peft_type": method,
            "gradient_checkpointing": "off",
            "zero_stage": 2,
            **keys,
        }
        shape = read_shape(TINY[family])
        return rank_memory(shape, make_recipe(config(**chosen), shape, gpus(count, 80))).parts.total

    assert need(per_device_train_batch_size=rows + 1) > need()
    assert need(seq_length=length * 2) > need()
    assert need(zero_stage=2) <= need(zero_stage=1)
    assert need(offload_optimizer="cpu") <= need()


@pytest.mark.parametrize(
    ("model", "hardware", "method", "stage"),
    [
        (QWEN_1_8B, gpus(1, 24), "lora", 0),
        (QWEN25_7B, gpus(8, 80), "lora", 2),
        (QWEN25_7B, gpus(8, 24), "full", 3),
    ],
)
def test_the_fastest_settings_that_fit_are_suggested(
    model: dict[str, Any], hardware: Hardware, method: str, stage: int
) -> None:
    chosen = suggest(hardware, model, config(peft_type=method))
    assert chosen.keys["zero_stage"] == stage
    assert chosen.keys["mixed_precision"] == "bf16"
    assert chosen.estimate.verdict == "fits"
    assert chosen.reason


def test_an_old_gpu_is_given_fp16_and_no_gpu_float32() -> None:
    hardware = gpus(1, 32)
    old = replace(hardware, usable=(replace(hardware.usable[0], bf16=False),))
    assert suggest(old, QWEN_1_8B, config()).keys["mixed_precision"] == "fp16"
    assert suggest(CPU_ONLY, TINY["qwen2"], config()).keys["mixed_precision"] == "no"


def test_where_nothing_fits_the_suggestion_says_so() -> None:
    chosen = suggest(gpus(1, 2), CODELLAMA_34B, config(peft_type="full"))
    assert chosen.estimate.verdict == "does not fit"
    assert "does not fit" in chosen.reason
