"""The tokenizer that generation loads is held against the file that training read."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from runners.benchmarks.demo import ideal_answers
from runners.benchmarks.prompts import PromptStyle
from runners.generate.loading import splits_otherwise
from runners.models.tiny import make_tiny_model

TEXTS = [answer.prompt.text for answer in ideal_answers(PromptStyle(format="chatml"))]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder, iter(TEXTS), hidden=32, layers=1)
    return folder


def test_the_tiny_model_is_split_as_its_file_says(checkpoint: Path) -> None:
    assert not splits_otherwise(AutoTokenizer.from_pretrained(checkpoint), TEXTS)


def test_a_file_that_splits_otherwise_than_its_architecture_is_noticed(checkpoint: Path) -> None:
    file = checkpoint / "tokenizer.json"
    written = Tokenizer.from_file(str(file))
    written.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    written.save(str(file))
    assert splits_otherwise(AutoTokenizer.from_pretrained(checkpoint), TEXTS)
