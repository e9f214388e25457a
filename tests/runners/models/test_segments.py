"""Packed samples never see each other, in any family and any layout."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from runners.data.batch import Batch
from runners.models import segments
from runners.train.inputs import make_inputs
from runners.train.weights import StepWeights

ROWS = [[5, 7, 4], [10, 3]]
LENGTH = 20
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": SMALL,
    "qwen3": {**SMALL, "head_dim": 16},
    "llama": SMALL,
    "mistral": {**SMALL, "sliding_window": 4},
    "starcoder2": SMALL,
    "glm": {**SMALL, "head_dim": 16},
    "gpt_neox": {k: v for k, v in SMALL.items() if k != "num_key_value_heads"},
    "gpt_bigcode": {
        "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 100,
        "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip


def packed_batch() -> Batch:
    rng = np.random.default_rng(0)
    shape = (len(ROWS), LENGTH)
    batch = Batch(
        input_ids=np.zeros(shape, np.int64),
        loss_mask=np.zeros(shape, bool),
        position_ids=np.zeros(shape, np.int64),
        segment_ids=np.zeros(shape, np.int32),
        task_ids=np.full(shape, -1, np.int32),
        sample_ids=np.full(shape, -1, np.int64),
    )
    for r, lengths in enumerate(ROWS):
        at = 0
        for number, length in enumerate(lengths, 1):
            here = slice(at, at + length)
            batch.input_ids[r, here] = rng.integers(3, 100, length)
            batch.loss_mask[r, at + 1 : at + length] = True
            batch.position_ids[r, here] = np.arange(length)
            batch.segment_ids[r, here] = number
            batch.task_ids[r, here] = 0
            batch.sample_ids[r, here] = 10 * r + number
            at += length
    return batch


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_logits_equal_those_of_each_sample_alone(family: str) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    batch = packed_batch()
    with torch.no_grad():
        alone = []
        for r, lengths in enumerate(ROWS):
            ends = np.cumsum(lengths)
            for start, stop in zip(ends - lengths, ends, strict=True):
                ids = torch.from_numpy(batch.input_ids[r : r + 1, start:stop])
                alone.append(model(ids).logits[0])
        wanted = torch.cat(alone)
        weights = StepWeights(np.arange(20), np.ones(20), np.array([1]))
        for way in ("flat", "sdpa", "eager"):
            model.set_attn_implementation(segments.NAME if way == "flat" else way)
            inputs = make_inputs(
                batch,
                weights,
                flat=way == "flat",
                device=torch.device("cpu"),
                mask_dtype=torch.float32 if way == "eager" else None,
                window=FAMILIES[family].get("sliding_window"),
            )
            backbone = getattr(model, model.base_model_prefix)
            hidden = backbone(**inputs.model, use_cache=False).last_hidden_state.flatten(0, 1)
            if way != "flat":
                hidden = hidden[torch.from_numpy((batch.segment_ids > 0).ravel())]
            logits = model.get_output_embeddings()(hidden)
            assert (logits - wanted).abs().max() < 1e-5, way
            targets = torch.from_numpy(batch.input_ids[batch.loss_mask])
            assert torch.equal(inputs.targets, targets)


@pytest.mark.parametrize("flat", [True, False])
def test_each_token_knows_the_length_of_its_segment(flat: bool) -> None:
    weights = StepWeights(np.arange(20), np.ones(20), np.array([1]))
    batch = packed_batch()
    inputs = make_inputs(batch, weights, flat=flat, device=torch.device("cpu"))
    assert inputs.lengths.shape == inputs.model["input_ids"].shape
    found = inputs.lengths if flat else inputs.lengths[torch.from_numpy(batch.segment_ids > 0)]
    wanted = [length for row in ROWS for length in row for _ in range(length)]
    assert found.flatten().tolist() == wanted


def test_attention_computes_in_the_type_of_autocast_where_that_is_on() -> None:
    query = torch.zeros(1, 1, 2, 4)
    assert segments.compute_type(query) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert segments.compute_type(query) == torch.bfloat16
    assert segments.compute_type(query.half()) == torch.float16


def test_gpus_before_ampere_do_without_the_flash_kernel() -> None:
    assert not segments.varlen_runs_on((7, 5))
    assert segments.varlen_runs_on((8, 0))
    assert segments.varlen_runs_on((12, 0))


def test_a_batch_of_padding_alone_is_one_token_that_nothing_is_asked_of() -> None:
    shape = (1, 8)
    empty = Batch(
        np.full(shape, 2, np.int64), np.zeros(shape, bool), np.zeros(shape, np.int64),
        np.zeros(shape, np.int32), np.full(shape, -1, np.int32), np.full(shape, -1, np.int64),
    )  # fmt: skip
    weights = StepWeights(np.arange(2), np.ones(2), np.array([1]))
    inputs = make_inputs(empty, weights, flat=True, device=torch.device("cpu"))
    assert inputs.model["input_ids"].tolist() == [[2]]
    assert len(inputs.targets) == inputs.tokens == 0


def test_generation_without_segments_is_refused_in_words() -> None:
    x = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match="needs their segments"):
        segments.segment_attention(torch.nn.Identity(), x, x, x, None)
