"""Every way of holding and sharding weights: train, save, merge, reload in plain transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from runners.models.alibi import WidenedHeads
from runners.train.merge import merge_adapter

pytestmark = pytest.mark.slow

BASE: dict[str, Any] = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_train_steps": 4,
    "checkpointing_steps": 2,
    "learning_rate": 1e-2,
}
TWO: dict[str, Any] = {"num_processes": 2, "deepspeed": "on"}


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(3, 40)[None]).logits
    return found


def assert_merges(final: Path, base: Path, target: Path) -> None:
    """The merged checkpoint gives the logits of base plus adapter, and not those of the base."""
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = logits(plain)
    adapted = logits(PeftModel.from_pretrained(plain, str(final)))
    merge_adapter(final, target)
    merged = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    assert (logits(merged) - adapted).abs().max() < 1e-4
    assert (adapted - before).abs().max() > 1e-3, "training changed something"
    assert not list(target.glob("adapter*"))
    assert AutoTokenizer.from_pretrained(target).encode("upper")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({**TWO, "zero_stage": 2}, id="ZeRO-2, 2 ranks"),
        pytest.param({**TWO, "zero_stage": 3}, id="ZeRO-3, 2 ranks"),
        pytest.param({"peft_type": "qlora", "quantization": "4bit"}, id="4 bit"),
        pytest.param({"peft_type": "qlora", "quantization": "8bit"}, id="8 bit"),
        pytest.param(
            {"use_dora": True, "lora_plus_ratio": 8, "neftune_alpha": 5}, id="DoRA, LoRA+, NEFTune"
        ),
        pytest.param(
            {"use_rslora": True, "lora_targets": "all-linear", "gradient_checkpointing": "full"},
            id="rsLoRA on all linear layers, recomputing",
        ),
    ],
)
def test_an_adapter_trains_merges_and_reloads(
    make_run: Callable[..., Any], material: Any, tmp_path: Path, settings: dict[str, Any]
) -> None:
    run = make_run(**BASE, **settings)
    run.finish()
    assert_merges(run.output / "final", material.model, tmp_path / "merged")
    summary = run.events()[-1].summary
    assert summary["peak_memory_bytes"] > 0
    assert summary["estimated_memory_bytes"] > 0


@pytest.mark.parametrize("stage", [2, 3])
def test_full_training_under_zero_equals_plain_training(
    make_run: Callable[..., Any], tmp_path: Path, stage: int
) -> None:
    settings = {**BASE, "peft_type": "full", "gradient_accumulation_steps": 1}
    settings |= {"learning_rate": 1e-3, "num_warmup_steps": 1}
    plain = make_run("plain", **{**settings, "per_device_train_batch_size": 4})
    plain.finish()
    sharded = make_run("sharded", **settings, **TWO, zero_stage=stage)
    sharded.finish()
    one, other = (
        AutoModelForCausalLM.from_pretrained(run.output / "final").state_dict()
        for run in (plain, sharded)
    )
    for name, weight in one.items():
        assert (weight - other[name]).abs().max() < 1e-5, name


@pytest.mark.full
@pytest.mark.parametrize(
    "more",
    [
        {"offload_param": "cpu", "offload_optimizer": "cpu"},
        {"offload_param": "cpu", "mixed_precision": "bf16"},
        {"peft_type": "full", "mixed_precision": "bf16"},
    ],
    ids=["offload", "offload bf16", "full bf16"],
)
def test_zero_3_trains_alike_with_offload_and_in_half_precision(
    make_run: Callable[..., Any], more: dict[str, Any]
) -> None:
    settings = {**BASE, "gradient_accumulation_steps": 1, "log_interval": 1, "lora_dropout": 0}
    alone = {key: value for key, value in more.items() if not key.startswith("offload")}
    plain = make_run("plain", **{**settings, "per_device_train_batch_size": 4, **alone})
    plain.finish()
    sharded = make_run("sharded", **settings, **TWO, zero_stage=3, **more)
    sharded.finish()
    losses, others = plain.series("loss"), sharded.series("loss")
    assert losses.keys() == others.keys()
    for step, values in losses.items():
        assert others[step]["loss"] == pytest.approx(values["loss"], rel=0.02), step


@pytest.mark.parametrize("name", ["baichuan-tiny", "chatglm2-tiny", "qwen-v1-tiny"])
def test_lora_on_a_converted_checkpoint_merges_to_the_same_logits(
    make_run: Callable[..., Any], shared: Path, material: Any, tmp_path: Path, name: str
) -> None:
    source = tmp_path / name
    source.mkdir()
    for file in ("config.json", "model.safetensors"):
        (source / file).write_bytes((shared / "models" / name / file).read_bytes())
    tokenizer = material.model / "tokenizer.json"
    (source / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    run = make_run(**{**BASE, "learning_rate": 1e-3}, pretrained_model_path=str(source))
    run.finish()
    native = run.output / "base"
    assert "converted" in str(run.events())
    assert_merges(run.output / "final", native, tmp_path / "merged")
    if name == "baichuan-tiny":
        heads = WidenedHeads(4, 16)
        added = sorted(set(range(heads.wide)) - set(heads._places.tolist()))
        trained = load_file(run.output / "final" / "adapter_model.safetensors")
        for key, weight in trained.items():
            if any(f"{which}_proj.lora_B" in key for which in "qkv"):
                rows = weight.view(heads.heads, heads.wide, -1)
                assert (rows[:, added] == 0).all(), "what ALiBi added is left alone"
                assert (rows != 0).any()
