"""Checkpoints that are not loaded as they lie: first-generation formats, adapters, quantization."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.tasks import TASKS
from runners.config import GenerateConfig
from runners.errors import UsageError
from runners.generate.decoding import Decoding
from runners.generate.engine import Pool, Request
from runners.generate.loading import base_end_token, end_token, load_model, load_tokenizer
from runners.generate.local import LocalEngine
from runners.generate.padded import PaddedEngine
from runners.generate.ranks import Ranks
from runners.lifecycle.events import EventWriter
from tests.runners.generate.conftest import END, END_OF_TURN, make_model, make_tokenizer
from tests.runners.generate.one_by_one import generate_one
from tests.runners.generate.test_exactness import requests_of

CPU = torch.device("cpu")
Answers = dict[str, str]


def answers(**settings: Any) -> Answers:
    """What a config's model says to a few questions, each also held against plain ``generate``."""
    config = GenerateConfig(model_name="tiny", **{"max_length": 160, **settings})
    tokenizer = load_tokenizer(config)
    loaded = load_model(config, tokenizer, CPU)
    eos_id = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    decoding = Decoding(max_length=config.max_length, eos=END_OF_TURN, eos_id=eos_id)
    requests = [
        request
        for request in requests_of(demo_benchmarks(), TASKS, tokenizer)
        if len(request.ids) < config.max_length - 12
    ][:6]
    assert requests
    # 8 bit keeps the columns that are large anywhere in a batch in full: its rows depend on their
    # neighbours.
    rows = 1 if config.quantization == "8bit" else 4
    made = PaddedEngine(loaded.model, tokenizer, decoding, rows=rows).complete(Pool(requests))
    said = {f"{c.task}/{c.index}": c.completion for c in made}
    for request in requests:
        alone = generate_one(loaded.model, tokenizer, decoding, request)
        text = tokenizer.decode(alone, clean_up_tokenization_spaces=False)
        assert said[f"{request.task}/{request.index}"] == text
    return said


@pytest.mark.parametrize("name", ["qwen-v1-tiny", "chatglm2-tiny", "baichuan-tiny"])
def test_a_first_generation_checkpoint_is_converted_once(
    name: str, shared: Path, tmp_path: Path, mft_home: Path
) -> None:
    source = tmp_path / name
    shutil.copytree(shared / "models" / name, source)
    make_tokenizer(vocabulary=320).save_pretrained(source)
    said = answers(model=str(source), max_length=256)
    (converted,) = (mft_home / "converted").glob(f"{name}-*")
    before = (converted / "model.safetensors").stat()
    assert answers(model=str(source), max_length=256) == said
    assert (converted / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns
    assert answers(model=str(converted), max_length=256) == said
    # Another checkpoint in the same place is not taken for the one that was there.
    (source / "generation_config.json").write_text("{}")
    answers(model=str(source), max_length=256)
    assert len(list((mft_home / "converted").glob(f"{name}-*"))) == 2


@pytest.fixture
def adapter(tmp_path: Path, checkpoint: Callable[[str], Path]) -> Path:
    """An adapter folder that changes what the tiny model says."""
    base = checkpoint("qwen2")
    torch.manual_seed(5)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"),
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(tmp_path / "adapter")
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    load_tokenizer(GenerateConfig(model_name="t", model=str(base))).save_pretrained(
        tmp_path / "merged"
    )
    return tmp_path / "adapter"


def test_an_adapter_is_loaded_on_its_base_and_says_what_the_merged_model_says(
    adapter: Path, checkpoint: Callable[[str], Path]
) -> None:
    base = str(checkpoint("qwen2"))
    said = answers(model=str(adapter))
    assert said == answers(model=str(adapter.parent / "merged"))
    assert said == answers(model=base, adapter=str(adapter))
    assert said == answers(model=base, adapter=str(adapter), adapter_mode="unmerged")
    assert said != answers(model=base)


def test_an_adapter_may_stay_beside_the_weights(adapter: Path) -> None:
    tokenizer = make_tokenizer()
    for mode, layers in (("merged", 0), ("unmerged", 6)):
        config = GenerateConfig(model_name="t", model=str(adapter), adapter_mode=mode)
        model = load_model(config, tokenizer, CPU).model
        found = [name for name, _ in model.named_modules() if name.endswith("lora_A.default")]
        assert len(found) == layers


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_quantized_models_answer_on_a_cpu_with_and_without_an_adapter(
    bits: str, adapter: Path, checkpoint: Callable[[str], Path]
) -> None:
    base = str(checkpoint("qwen2"))
    plain = answers(model=base, quantization=bits)
    assert answers(model=str(adapter), quantization=bits) != plain
    assert plain != answers(model=base)


def test_a_length_beyond_learned_positions_is_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    make_model("gpt_bigcode", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = GenerateConfig(model_name="t", model=str(tmp_path), max_length=2049)
    with pytest.raises(UsageError, match="knows 2048 positions only"):
        load_model(config, tokenizer, CPU)


def test_a_base_models_own_end_token_is_named_where_the_chat_one_was_chosen_over_it() -> None:
    tokenizer = make_tokenizer()
    assert end_token(tokenizer, None)[0] == END_OF_TURN
    assert base_end_token(tokenizer, END_OF_TURN) is None
    tokenizer.eos_token = END
    assert end_token(tokenizer, None)[0] == END_OF_TURN
    assert base_end_token(tokenizer, END_OF_TURN) == END
    assert base_end_token(tokenizer, END) is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [({}, True), ({"eos_token": END}, False), ({"format": "chatml"}, False)],
)
def test_who_asks_a_base_model_hears_of_its_end_token(
    settings: dict[str, Any], told: bool, tmp_path: Path, checkpoint: Callable[[str], Path]
) -> None:
    model = Path(shutil.copytree(checkpoint("qwen2"), tmp_path / "base"))
    tokenizer = make_tokenizer()
    tokenizer.eos_token = END
    tokenizer.save_pretrained(model)
    config = GenerateConfig(model_name="t", model=str(model), **settings)
    with EventWriter(tmp_path / "events.jsonl") as events:
        LocalEngine(config, Ranks(), events).prepared([Request("mbpp", 0, 0, "x = 1")])
    said = (tmp_path / "events.jsonl").read_text()
    assert (f"use --eos-token '{END}'" in said) == told
