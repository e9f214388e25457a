"""What cannot work is refused before anything is launched, each with its own sentence."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from runners.config import TrainConfig
from runners.config.preflight import check_train, preparations, require_trainable
from runners.errors import MissingInputError, UsageError

CPU = SimpleNamespace(usable=(), bf16=False)
ONE_GPU = SimpleNamespace(usable=("gpu",), bf16=True)
LLAMA = {
    "model_type": "llama", "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 16,
}  # fmt: skip
HEADER = json.dumps({f"model.layers.0.self_attn.{x}_proj.weight": {} for x in "qkvo"}).encode()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    (folder / "model.safetensors").write_bytes(len(HEADER).to_bytes(8, "little") + HEADER)
    words = {f"w{i}": i for i in range(10)}
    Tokenizer(models.WordLevel(words, "w0")).save(str(folder / "tokenizer.json"))
    return folder


def config(model: Path | str, **settings: Any) -> TrainConfig:
    values = {"data_paths": ["/"], "pretrained_model_path": str(model), **settings}
    return TrainConfig(**values)


def test_a_good_config_has_nothing_against_it(model: Path) -> None:
    assert check_train(config(model), CPU) == []


def test_a_hub_name_is_left_to_the_job() -> None:
    assert check_train(config("org/model"), CPU) == []


def test_a_missing_folder_a_missing_config_and_missing_weights(model: Path) -> None:
    with pytest.raises(MissingInputError, match="no such model folder"):
        require_trainable(config(model / "nowhere"), CPU)
    (model / "model.safetensors").unlink()
    with pytest.raises(MissingInputError, match="no weights"):
        require_trainable(config(model), CPU)
    (model / "config.json").unlink()
    with pytest.raises(MissingInputError, match=r"no config\.json"):
        require_trainable(config(model), CPU)


def test_a_tokenizer_larger_than_the_embedding(model: Path) -> None:
    (model / "config.json").write_text(json.dumps({**LLAMA, "vocab_size": 9}))
    with pytest.raises(UsageError, match="10 tokens, the model's embedding 9 rows"):
        require_trainable(config(model), CPU)


def test_a_tokenizer_smaller_than_the_embedding_by_more_than_padding(model: Path) -> None:
    for rows, fits in ((10, True), (16, True), (1024, True), (1034, False), (32_000, False)):
        (model / "config.json").write_text(json.dumps({**LLAMA, "vocab_size": rows}))
        found = check_train(config(model), CPU)
        assert (found == []) is fits, rows
        if not fits:
            assert f"10 tokens, the model's embedding {rows} rows" in str(found[0])


def test_a_tokenizer_of_sentencepiece_where_it_is_converted_and_where_it_is_not(
    model: Path,
) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(MissingInputError, match=r"no tokenizer\.json"):
        require_trainable(config(model), CPU)
    baichuan = {**LLAMA, "model_type": "baichuan", "rms_norm_eps": 1e-6}
    (model / "config.json").write_text(json.dumps({**baichuan, "max_position_embeddings": 64}))
    with pytest.raises(
        MissingInputError, match=r"neither a tokenizer\.json nor a tokenizer\.model"
    ):
        require_trainable(config(model), CPU)
    (model / "tokenizer.model").write_bytes(b"pieces")
    assert check_train(config(model), CPU) == []
    converted, grown = preparations(config(model))
    assert "baichuan checkpoint will be converted to llama" in converted
    assert "lacks <|im_start|> and <|im_end|>" in grown


def test_markers_that_a_tokenizer_lacks_are_told_before_the_run(model: Path) -> None:
    (told,) = preparations(config(model))
    assert "lacks <|im_start|> and <|im_end|>" in told
    assert "embeddings and head are trained in full" in told
    (full,) = preparations(config(model, peft_type="full"))
    assert "beside the adapter" not in full
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|im_start|>"])
    tokenizer.save(str(model / "tokenizer.json"))
    assert "lacks <|im_end|>:" in preparations(config(model))[0]
    tokenizer.add_special_tokens(["<|im_end|>"])
    tokenizer.save(str(model / "tokenizer.json"))
    assert preparations(config(model)) == []


def test_an_unknown_architecture_and_one_that_is_not_what_was_said(model: Path) -> None:
    with pytest.raises(UsageError, match="model_type=qwen2 was asked for"):
        require_trainable(config(model, model_type="qwen2"), CPU)
    assert check_train(config(model, model_type="code_llama"), CPU) == []
    (model / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="bert"):
        require_trainable(config(model), CPU)


def test_more_ranks_than_gpus(model: Path) -> None:
    with pytest.raises(UsageError, match="2 ranks were asked for, and there are 1 GPUs"):
        require_trainable(config(model, num_processes=2), ONE_GPU)
    assert check_train(config(model, num_processes=2), CPU) == []


def test_gpus_by_name_where_there_are_none(model: Path) -> None:
    with pytest.raises(UsageError, match="no GPU can be used"):
        require_trainable(config(model, gpu_ids=["0"]), CPU)


def test_quantized_weights_cannot_be_sharded(model: Path) -> None:
    asked = config(model, peft_type="qlora", zero_stage=3, deepspeed="on")
    with pytest.raises(UsageError, match="ZeRO-3 cannot shard"):
        require_trainable(asked, CPU)


def test_quantized_weights_where_bitsandbytes_is_not(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "runners.config.preflight.importlib.util.find_spec",
        lambda name: None if name == "bitsandbytes" else object(),
    )
    with pytest.raises(UsageError, match="4bit needs bitsandbytes, which is not installed"):
        require_trainable(config(model, peft_type="qlora"), CPU)


@pytest.mark.parametrize(
    ("bits", "capability", "works"),
    [
        ("4bit", (6, 0), True),
        ("4bit", (5, 2), False),
        ("8bit", (7, 0), False),
        ("8bit", (7, 5), True),
    ],
)
def test_quantized_weights_on_gpus_that_have_no_kernels_for_them(
    bits: str, capability: tuple[int, int], works: bool, model: Path
) -> None:
    new, old = (SimpleNamespace(compute_capability=c) for c in ((9, 0), capability))
    hardware = SimpleNamespace(usable=(new, old), bf16=False)
    found = check_train(config(model, peft_type="qlora", quantization=bits), hardware)
    assert (found == []) is works
    if not works:
        assert f"a GPU here has {capability[0]}.{capability[1]}" in str(found[0])
    on_cpu = config(model, peft_type="qlora", quantization=bits, use_cpu=True)
    assert check_train(on_cpu, hardware) == []


def test_lora_targets_that_match_nothing_are_told_with_the_names_that_exist(model: Path) -> None:
    for targets in ("c_attn", "q_proj,c_attn", "model.layers.0.c_attn"):
        asked = config(model, lora_targets=targets)
        with pytest.raises(UsageError, match="c_attn") as refused:
            require_trainable(asked, CPU)
        assert "q_proj, k_proj, v_proj, o_proj" in str(refused.value)
    for targets in ("family", "all-linear", "q_proj", "model.layers.0.self_attn.q_proj,lm_head"):
        assert check_train(config(model, lora_targets=targets), CPU) == []


def test_modules_to_save_that_the_checkpoint_does_not_have(model: Path) -> None:
    assert check_train(config(model, modules_to_save="lm_head,o_proj"), CPU) == []
    with pytest.raises(UsageError, match="no module of this model is called 'wte'"):
        require_trainable(config(model, modules_to_save="wte"), CPU)


def test_batch_settings_that_do_not_divide(model: Path) -> None:
    good = {"global_batch_size": 24, "per_device_train_batch_size": 3}
    assert check_train(config(model, **good, num_processes=2), CPU) == []
    told = "global_batch_size 24 does not divide by 5 ranks of 3 rows"
    for more in ({}, {"peft_type": "qlora"}):
        found = check_train(config(model, **good, num_processes=5, **more), CPU)
        assert len(found) == 1, "told once, however many checks need the layout"
        assert told in str(found[0])


def test_alibi_positions_in_half_precision_or_with_dora(model: Path) -> None:
    baichuan = {**LLAMA, "model_type": "baichuan", "rms_norm_eps": 1e-6}
    (model / "config.json").write_text(json.dumps({**baichuan, "model_max_length": 64}))
    assert check_train(config(model, mixed_precision="no"), ONE_GPU) == []
    with pytest.raises(UsageError, match="ALiBi positions need float32, and bf16 was asked"):
        require_trainable(config(model), ONE_GPU)
    with pytest.raises(UsageError, match="DoRA cannot adapt"):
        require_trainable(config(model, use_dora=True), CPU)
    (model / "config.json").write_text(json.dumps({**baichuan, "max_position_embeddings": 64}))
    assert check_train(config(model, use_dora=True), ONE_GPU) == [], "7B models are rotary"


def test_a_checkpoint_of_another_model_or_method(model: Path, tmp_path: Path) -> None:
    step = tmp_path / "run" / "checkpoints" / "step-00000004"
    step.mkdir(parents=True)
    asked = config(model, resume_from_checkpoint=tmp_path / "run")
    with pytest.raises(MissingInputError, match="no whole checkpoint"):
        require_trainable(asked, CPU)
    state = {"format": 1, "method": "lora", "base": "other", "base_dimensions": LLAMA}
    (step / "state.json").write_text(json.dumps(state))
    assert check_train(asked, CPU) == []
    state["base_dimensions"] = {**LLAMA, "hidden_size": 16}
    (step / "state.json").write_text(json.dumps(state))
    with pytest.raises(UsageError, match="another model"):
        require_trainable(asked, CPU)
    with pytest.raises(UsageError, match="peft_type=lora"):
        require_trainable(config(model, peft_type="full", resume_from_checkpoint=step), CPU)


@pytest.mark.parametrize(
    ("saved", "told"),
    [({"lora_rank": 8}, "lora_rank=8, and 32"), ({"loss": "coba"}, "weighted_loss_mode=coba")],
)
def test_a_checkpoint_of_another_rank_or_loss(
    saved: dict[str, Any], told: str, model: Path, tmp_path: Path
) -> None:
    step = tmp_path / "step-00000004"
    step.mkdir()
    same = {"format": 1, "method": "lora", "lora_rank": 32, "loss": "case3"}
    (step / "state.json").write_text(json.dumps(same))
    asked = config(model, resume_from_checkpoint=step)
    assert check_train(asked, CPU) == []
    (step / "state.json").write_text(json.dumps({**same, **saved}))
    with pytest.raises(UsageError, match=told):
        require_trainable(asked, CPU)


def test_a_checkpoint_of_other_weights_of_the_same_shape(model: Path, tmp_path: Path) -> None:
    weights = bytearray((model / "model.safetensors").read_bytes() + bytes(1_000_000))
    (model / "model.safetensors").write_bytes(weights)
    tuned, moved = tmp_path / "tuned", tmp_path / "moved"
    shutil.copytree(model, moved)
    shutil.copytree(model, tuned)
    for place in range(300_000, 900_000, 2):
        weights[place] = 1
    (tuned / "model.safetensors").write_bytes(weights)
    step = tmp_path / "step-00000004"
    step.mkdir()
    state = {"format": 1, "method": "lora", "base": str(model), "base_dimensions": LLAMA}
    (step / "state.json").write_text(json.dumps(state))
    for same in (model, moved):
        assert check_train(config(same, resume_from_checkpoint=step), CPU) == []
    with pytest.raises(UsageError, match="other weights of a model of the same shape"):
        require_trainable(config(tuned, resume_from_checkpoint=step), CPU)
    shutil.rmtree(model)
    assert check_train(config(tuned, resume_from_checkpoint=step), CPU) == [], "it may have moved"


def test_everything_wrong_is_told_at_once(model: Path) -> None:
    asked = config(model / "nowhere", data_paths=["/nowhere"], num_processes=9)
    assert len(check_train(asked, ONE_GPU)) == 3
