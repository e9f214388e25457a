"""What the estimate is told of the data: the training split, as it will be trained."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runners.config import TrainConfig
from runners.data.cache import build_cache
from runners.data.counting import count_training_data
from tests.runners.data.conftest import WriteTask, chat
from tests.runners.hardware.shapes import QWEN25_7B


@pytest.fixture
def folders(write_task: WriteTask) -> list[Path]:
    return [write_task(name, [chat("a b", "c d e") for _ in range(10)]) for name in ("one", "two")]


def make_config(folders: list[Path], **settings: object) -> TrainConfig:
    return TrainConfig.model_validate(
        {"data_paths": folders, "pretrained_model_path": "none", **settings}
    )


def test_the_training_split_is_counted_and_nothing_else(
    folders: list[Path], tiny_tokenizer: Path
) -> None:
    config = make_config(folders, data_split="80,20,0")
    cache = build_cache(config, tiny_tokenizer)

    counts = count_training_data(config, tiny_tokenizer)

    assert counts.samples == 16
    assert counts.tokens == 16 * cache.lengths[0]
    assert counts.trained_tokens == 16 * cache.trained_counts[0]


def test_samples_that_are_too_long_are_counted_as_they_will_be_trained(
    folders: list[Path], tiny_tokenizer: Path
) -> None:
    longest = int(build_cache(make_config(folders), tiny_tokenizer).lengths.max())
    short = {"data_split": "100,0,0", "seq_length": longest - 1}

    cut = count_training_data(make_config(folders, overlong="truncate", **short), tiny_tokenizer)

    assert (cut.samples, cut.tokens) == (20, 20 * (longest - 1))


def test_what_an_epoch_takes_is_counted_under_caps_and_weights(
    folders: list[Path], tiny_tokenizer: Path
) -> None:
    whole = {"data_split": "100,0,0"}
    capped = make_config(folders, max_samples_per_task=3, **whole)
    weighted = make_config(folders, sampling="weights", task_weights={"one": 1}, **whole)
    length = int(build_cache(capped, tiny_tokenizer).lengths[0])

    counts = count_training_data(capped, tiny_tokenizer)
    assert (counts.samples, counts.tokens) == (6, 6 * length)
    assert count_training_data(weighted, tiny_tokenizer).samples == 20


def test_the_estimate_counts_the_data_and_tells_its_steps(
    folders: list[Path], tiny_tokenizer: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_tokenizer, tmp_path / "model")
    (model / "config.json").write_text(json.dumps(QWEN25_7B))
    file = tmp_path / "train.json"
    settings = {
        "data_paths": [str(folder) for folder in folders],
        "pretrained_model_path": str(model),
        "data_split": "80,20,0",
        "padding_mode": "padding",
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 3,
    }
    file.write_text(json.dumps(settings))

    told = subprocess.run(
        [sys.executable, "-m", "mft_tui", "estimate", str(file), "--count", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["speed"]["steps"] == 3 * 16 // 2
    assert "counting" in told.stderr
