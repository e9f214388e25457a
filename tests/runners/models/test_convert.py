"""First-generation checkpoints give the logits that their own modelling code gave."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

from runners.errors import MissingInputError, UsageError
from runners.models.alibi import WidenedHeads, alibi_slopes
from runners.models.convert import convert_checkpoint
from runners.models.families import has_alibi
from runners.models.first_generation import native_config, native_tensors

NAMES = ["baichuan-tiny", "chatglm2-tiny", "qwen-v1-tiny"]


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_the_converted_checkpoint_equal_the_expected_ones(
    name: str, shared: Path, first_generation: dict[str, Path]
) -> None:
    expected = load_file(shared / "models" / name / "expected.safetensors")
    model, told = AutoModelForCausalLM.from_pretrained(
        first_generation[name], output_loading_info=True
    )
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    with torch.no_grad():
        logits = model.eval()(expected["input_ids"]).logits
    assert (logits - expected["logits"]).abs().max() < 1e-4


def test_a_checkpoint_in_several_files_is_converted_whole(shared: Path, tmp_path: Path) -> None:
    source = shared / "models" / "qwen-v1-tiny"
    weights = load_file(source / "model.safetensors")
    split = tmp_path / "split"
    split.mkdir()
    (split / "config.json").write_bytes((source / "config.json").read_bytes())
    names = sorted(weights)
    placed = {}
    for number, part in enumerate((names[:9], names[9:])):
        file = f"model-{number}.safetensors"
        save_file({key: weights[key] for key in part}, split / file)
        placed |= dict.fromkeys(part, file)
    index = split / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": placed}))
    convert_checkpoint(split, tmp_path / "a")
    convert_checkpoint(source, tmp_path / "b")
    one, other = (load_file(tmp_path / n / "model.safetensors") for n in "ab")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_pytorch_bin_weights_are_read_without_running_their_pickles(
    shared: Path, tmp_path: Path
) -> None:
    source = shared / "models" / "baichuan-tiny"
    bins = tmp_path / "bins"
    bins.mkdir()
    (bins / "config.json").write_bytes((source / "config.json").read_bytes())
    torch.save(load_file(source / "model.safetensors"), bins / "pytorch_model.bin")
    convert_checkpoint(bins, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_native_checkpoint_is_told_that_it_needs_no_conversion(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UsageError, match="transformers reads as it is"):
        convert_checkpoint(tmp_path, tmp_path / "out")


def test_a_missing_shard_is_named_and_nothing_is_left_behind(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text('{"model_type": "qwen"}')
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    with pytest.raises(MissingInputError, match=r"gone\.safetensors"):
        convert_checkpoint(source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [source]


def test_a_tensor_the_architecture_lacks_is_an_error_not_a_loss() -> None:
    config = {"model_type": "qwen"}
    with pytest.raises(UsageError, match=r"h\.0\.attn\.qweight"):
        list(native_tensors("transformer.h.0.attn.qweight", torch.zeros(1), config))


# As the published config.json files have them, made small; 13B's alone names no positions.
BAICHUAN_7B = {"architectures": ["BaiChuanForCausalLM"], "max_position_embeddings": 4096}
BAICHUAN2_7B = {
    "architectures": ["BaichuanForCausalLM"], "max_position_embeddings": 4096,
    "model_max_length": 4096, "vocab_size": 125_696,
}  # fmt: skip
BAICHUAN_13B = {"architectures": ["BaichuanForCausalLM"], "model_max_length": 4096}


@pytest.mark.parametrize("told", [BAICHUAN_7B, BAICHUAN2_7B], ids=["Baichuan-7B", "Baichuan2-7B"])
def test_a_rotary_baichuan_is_the_llama_that_it_is(told: dict[str, object], tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "model_type": "baichuan", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128,
        "num_attention_heads": 4, "num_hidden_layers": 2, "rms_norm_eps": 1e-6,
        "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "float32", **told,
    }  # fmt: skip
    torch.manual_seed(0)
    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")
    llama = LlamaForCausalLM(
        LlamaConfig(
            **{key: config[key] for key in kept}, num_hidden_layers=2, rms_norm_eps=1e-6,
            max_position_embeddings=4096,
        )
    ).eval()  # fmt: skip
    tensors = {}
    for name, tensor in llama.state_dict().items():
        if ".self_attn.o_proj" in name or ".self_attn." not in name:
            tensors[name] = tensor
    for layer in range(2):
        place = f"model.layers.{layer}.self_attn"
        parts = [llama.get_parameter(f"{place}.{which}_proj.weight") for which in "qkv"]
        tensors[f"{place}.W_pack.weight"] = torch.cat(parts).detach()
        tensors[f"{place}.rotary_emb.inv_freq"] = torch.ones(8)
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(config))
    save_file(tensors, source / "model.safetensors")
    convert_checkpoint(source, tmp_path / "native")
    if told is BAICHUAN2_7B:
        # Its head is normalized row by row at run time.
        llama.lm_head.weight.data = torch.nn.functional.normalize(llama.lm_head.weight.data)
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        wanted = llama(ids).logits
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "native").eval()(ids).logits
    assert (found - wanted).abs().max() < 1e-5


def test_only_baichuans_13b_layout_has_alibi() -> None:
    for told, alibi in ((BAICHUAN_7B, False), (BAICHUAN2_7B, False), (BAICHUAN_13B, True)):
        assert has_alibi({"model_type": "baichuan", **told}) is alibi
    heads = {"model_type": "baichuan", "num_attention_heads": 4, "hidden_size": 64}
    rest = {"intermediate_size": 8, "num_hidden_layers": 1, "rms_norm_eps": 1e-6, "vocab_size": 9}
    native = native_config({**heads, **rest, **BAICHUAN_13B, "torch_dtype": "bfloat16"})
    assert has_alibi(native), "it still shows after conversion"
    assert native["torch_dtype"] == "float32"


@pytest.mark.parametrize("heads", [4, 8, 12, 40])
def test_alibi_slopes_follow_the_paper(heads: int) -> None:
    slopes = alibi_slopes(heads)
    assert len(slopes) == heads
    assert all(0 < slope < 1 for slope in slopes)
    if heads == 8:
        assert slopes == pytest.approx([2.0**-i for i in range(1, 9)])
    if heads == 12:
        assert slopes[8:] == pytest.approx([2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


def test_rotary_attention_with_the_alibi_pair_equals_alibi_over_long_distances() -> None:
    heads, width, length = 4, 16, 3000
    wide = WidenedHeads(heads, width)
    torch.manual_seed(0)
    q, k, v = (torch.randn(heads, length, width) * 0.5 for _ in range(3))
    at = torch.arange(length)
    bias = torch.tensor(alibi_slopes(heads))[:, None, None] * (
        at[None, None, :] - at[None, :, None]
    )
    causal = torch.full((length, length), -torch.inf).triu(1)
    wanted = scaled_dot_product_attention(q, k, v, attn_mask=bias + causal)

    def widened(x: torch.Tensor) -> torch.Tensor:
        return wide.rows(x.transpose(1, 2).flatten(0, 1)).view(heads, wide.wide, length).mT

    extra_q = wide.query_bias(torch.zeros(1)).view(heads, 1, wide.wide)
    extra_k = wide.key_bias(torch.zeros(1)).view(heads, 1, wide.wide)
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=heads, head_dim=wide.wide,
        max_position_embeddings=length, rope_parameters=wide.rope(length),
    )  # fmt: skip
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1, dtype=torch.float32), at[None])
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q_wide, k_wide = apply_rotary_pos_emb(
        (widened(q) * wide.query_gain + extra_q)[None], (widened(k) + extra_k)[None], cos, sin
    )
    found = scaled_dot_product_attention(q_wide, k_wide, widened(v)[None], is_causal=True)[0]
    narrow = torch.stack([found[..., i] for i in wide._places], dim=-1)
    assert math.isclose(LlamaAttention(config, 0).scaling, wide.wide**-0.5)
    assert (narrow - wanted).abs().max() < 2e-3
