"""Dimensions from config.json, against the models themselves."""

import json
from pathlib import Path

import pytest

from runners.errors import UsageError
from runners.hardware.shape import read_shape
from tests.runners.hardware.shapes import CODELLAMA_34B, QWEN25_7B, QWEN_1_8B, TINY


@pytest.mark.parametrize("family", TINY)
def test_parameters_are_those_of_the_real_model(family: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(**TINY[family])
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    assert read_shape(TINY[family]).parameters == model.num_parameters()
    assert read_shape(config.to_dict()).parameters == model.num_parameters()


@pytest.mark.parametrize(
    ("config", "billions"), [(QWEN_1_8B, 1.84), (QWEN25_7B, 7.62), (CODELLAMA_34B, 33.74)]
)
def test_known_models_have_their_published_size(config: dict[str, object], billions: float) -> None:
    assert read_shape(config).parameters / 1e9 == pytest.approx(billions, abs=0.005)


@pytest.mark.parametrize("name", ["qwen-v1-tiny", "chatglm2-tiny", "baichuan-tiny"])
def test_first_generation_checkpoints_have_the_parameters_that_are_in_the_file(
    shared: Path, name: str
) -> None:
    safetensors = pytest.importorskip("safetensors")
    folder = shared / "models" / name
    stored = 0
    with safetensors.safe_open(str(folder / "model.safetensors"), "np") as file:
        for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
            if "inv_freq" not in key:
                size = 1
                for length in file.get_slice(key).get_shape():
                    size *= length
                stored += size
    assert read_shape(json.loads((folder / "config.json").read_text())).parameters == stored


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="mamba") as caught:
        read_shape({"model_type": "mamba"})
    assert "qwen2" in str(caught.value)


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size"])
def test_a_missing_dimension_is_named(key: str) -> None:
    broken = {name: value for name, value in QWEN25_7B.items() if name != key}
    with pytest.raises(UsageError, match=key):
        read_shape(broken)


@pytest.mark.parametrize("value", [-1, "many", 3.5, True])
def test_a_dimension_that_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="hidden_size"):
        read_shape({**QWEN25_7B, "hidden_size": value})
