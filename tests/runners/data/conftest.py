"""Small tokenizers made on the spot, and small task folders."""

import importlib.util
import json
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

CORPUS = [
    "def add(a, b):\n    return a + b\n",
    "Write a python function that adds two numbers.\n\nfor i in range(10):\n    print(i)\n",
    "import os\n\n\nclass Thing:\n    def __init__(self) -> None:\n        self.x = 1\n",
] * 5


def make_tokenizer(folder: Path, special: list[str], size: int = 400) -> Path:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(special)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"), special)


@pytest.fixture(scope="session")
def bare_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that knows nothing of ChatML."""
    return make_tokenizer(tmp_path_factory.mktemp("bare"), ["<|endoftext|>"])


@pytest.fixture(scope="session")
def qwen3(shared: Path) -> Path:
    return shared / "tokenizers" / "qwen3"


def chat(question: str, answer: str, system: str | None = None, **more: Any) -> dict[str, Any]:
    rounds = [
        {"role": "human", "content": question, "chat_round_id": 1},
        {"role": "bot", "content": answer, "chat_round_id": 1},
    ]
    if system is not None:
        rounds.insert(0, {"role": "system", "content": system, "chat_round_id": 0})
    return {"chat_rounds": rounds, **more}


WriteTask = Callable[..., Path]


@pytest.fixture
def write_task(tmp_path: Path) -> WriteTask:
    """Write records (or raw lines) as a task folder under ``tmp_path/data``."""

    def write(name: str, records: Iterable[Any], file: str = "train.jsonl") -> Path:
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
        (folder / file).write_bytes(b"".join(line + b"\n" for line in lines))
        return folder

    return write


@pytest.fixture(scope="session")
def real_pairs(shared: Path) -> list[tuple[str, str]]:
    """(docstring, source) of real functions from some packages of the standard library."""
    spec = importlib.util.spec_from_file_location("stdlib_tasks", shared / "tools/stdlib_tasks.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    root = Path(sysconfig.get_paths()["stdlib"])
    packages = ("json", "logging", "http")
    return [(doc, code) for p in packages for _, doc, code in tool.functions(root / p)]
