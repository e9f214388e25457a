"""The base that a run makes for itself is made of the checkpoint that the run names."""

import os
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

from runners.config import TrainConfig
from runners.errors import UsageError
from runners.models.prepare import Base, prepare_base


@pytest.fixture
def source(shared: Path, tmp_path: Path) -> Path:
    """A first-generation checkpoint that may be changed."""
    folder = tmp_path / "source"
    shutil.copytree(shared / "models" / "qwen-v1-tiny", folder)
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o755)
    vocabulary = {text: i for i, text in enumerate(("<|im_start|>", "<|im_end|>", "a"))}
    Tokenizer(BPE(vocabulary, [])).save(str(folder / "tokenizer.json"))
    return folder


def prepared(source: Path, output: Path) -> Base:
    config = TrainConfig(data_paths=[output], pretrained_model_path=str(source))
    return prepare_base(config, output, lambda: True)


def test_a_base_is_made_once_and_anew_when_its_source_changes(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    weights = prepared(source, output).folder / "model.safetensors"
    first = weights.stat().st_mtime_ns
    assert prepared(source, output).folder == weights.parent
    assert weights.stat().st_mtime_ns == first
    os.utime(source / "model.safetensors", ns=(1, 1))
    prepared(source, output)
    assert weights.stat().st_mtime_ns != first


def test_a_base_that_another_run_left_is_not_taken_for_ours(source: Path, tmp_path: Path) -> None:
    other = shutil.copytree(source, tmp_path / "other")
    output = tmp_path / "out"
    weights = prepared(other, output).folder / "model.safetensors"
    before = weights.stat().st_mtime_ns
    prepared(source, output)
    assert weights.stat().st_mtime_ns != before


def test_a_base_that_was_being_made_when_the_run_died_is_made_anew(
    source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    (output / ".base.new").mkdir(parents=True)
    (output / ".base.new" / "half").touch()
    folder = prepared(source, output).folder
    assert (folder / "model.safetensors").is_file()
    assert not (folder / "half").exists()


def test_a_folder_that_no_run_made_is_left_alone(source: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "base" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    with pytest.raises(UsageError, match="something else does"):
        prepared(source, tmp_path / "out")
    assert mine.read_text() == "precious"
