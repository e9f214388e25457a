"""What is fetched of a model on the hub."""

from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import pytest

from runners.models.families import weight_files
from runners.models.load import fetch_base

BOTH = ["config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json"]
PICKLES = [
    "config.json", "pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin",
    "tokenizer.model", "modeling_chatglm.py",
]  # fmt: skip


def hub(files: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub have one repository with these files, fetched into ``folder``."""

    def snapshot(name: str, *, allow_patterns: list[str]) -> str:
        folder.mkdir(exist_ok=True)
        for file in files:
            if any(fnmatch(file, pattern) for pattern in allow_patterns):
                text = '{"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}'
                (folder / file).write_text(text)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)


def test_weights_that_are_there_as_safetensors_are_not_fetched_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(BOTH, tmp_path / "hub", monkeypatch)
    folder = fetch_base("org/model")
    assert [path.name for path in weight_files(folder)] == ["model.safetensors"]
    assert not (folder / "pytorch_model.bin").exists()


def test_a_checkpoint_that_has_pickles_only_is_fetched_with_them_and_without_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(PICKLES, tmp_path / "hub", monkeypatch)
    folder = fetch_base("org/model")
    assert [path.name for path in weight_files(folder)] == ["pytorch_model-00001-of-00001.bin"]
    assert (folder / "tokenizer.model").exists()
    assert not list(folder.glob("*.py"))
