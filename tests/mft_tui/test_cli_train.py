"""``mft-tui train --dry-run``, ``merge`` and ``convert`` as a person calls them."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from mft_tui.cli.commands import app
from runners.config import TrainConfig
from runners.lifecycle.folders import StateFolder
from runners.models.families import read_model_config
from runners.models.tiny import make_tiny_model


def mft(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mft_tui", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    make_tiny_model(
        folder, ["def add(a, b): return a + b"] * 20, vocabulary=280, hidden=32, layers=2,
        context=64,
    )  # fmt: skip
    return folder


@pytest.fixture
def config(model: Path, tmp_path: Path) -> Path:
    """A config file that can be trained, on CPU wherever the test runs."""
    data = tmp_path / "data" / "task"
    data.mkdir(parents=True)
    path = tmp_path / "train.json"
    values = {"data_paths": [str(data)], "pretrained_model_path": str(model), "use_cpu": True}
    path.write_text(json.dumps(values))
    return path


def dry_run(config: Path, *settings: str, json: bool = True) -> Any:
    words = [word for setting in settings for word in ("--set", setting)]
    arguments = ["train", str(config), *words, "--dry-run", *(["--json"] if json else [])]
    return CliRunner().invoke(app, arguments)


def test_a_dry_run_prints_the_line_and_starts_nothing(config: Path) -> None:
    shown = dry_run(config, json=False)
    assert shown.exit_code == 0, shown.output
    words = shlex.split(shown.stdout.splitlines()[0])
    assert words[words.index("-m") + 1] == "accelerate.commands.launch"
    assert words[-3:] == ["-m", "runners.train", "RUN_FOLDER"]
    assert "ACCELERATE_USE_CPU=true" in words
    assert not (StateFolder.default().root / "runs").exists()


def test_a_dry_run_as_json_has_the_deepspeed_settings_that_the_config_asks_for(
    config: Path,
) -> None:
    assert json.loads(dry_run(config).stdout)["deepspeed"] is None
    asked = ("deepspeed=on", "zero_stage=3", "num_processes=2", "global_batch_size=12")
    shown = json.loads(dry_run(config, *asked).stdout)
    settings = shown["deepspeed"]
    assert settings["zero_optimization"]["stage"] == 3
    assert settings["gradient_accumulation_steps"] == 6
    assert settings["zero_optimization"]["reduce_bucket_size"] < 1_000_000, "a tiny adapter"
    argv = shown["argv"]
    assert argv[argv.index("--gradient_accumulation_steps") + 1] == "6"
    assert shown["environment"]["DS_ACCELERATOR"] == "cpu"


def test_what_cannot_be_trained_is_refused_before_a_run_exists(config: Path) -> None:
    for setting, code, told in (
        ("global_batch_size=7", 2, "does not divide"),
        ("lora_targets=c_attn", 2, "'c_attn'"),
        ("pretrained_model_path=/nowhere", 5, "no such model folder"),
        ("resume_from_checkpoint=/nowhere", 5, "no whole checkpoint"),
    ):
        words = ["--set", "per_device_train_batch_size=2", "--set", setting]
        failed = mft("train", str(config), *words)
        assert failed.returncode == code, failed.stderr
        assert told in failed.stderr
        assert "Traceback" not in failed.stderr
    assert not (StateFolder.default().root / "runs").exists()


def test_what_is_done_to_the_model_is_said_before(config: Path, model: Path) -> None:
    assert "will be converted" not in dry_run(config).output
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    assert "<|im_end|>" in str(tokenizer["added_tokens"])
    plain = config.parent / "plain"
    shutil.copytree(model, plain)
    for token in tokenizer["added_tokens"]:
        token["content"] = token["content"].replace("im_", "other_")
    tokenizer["model"]["vocab"] = {
        piece.replace("im_", "other_"): i for piece, i in tokenizer["model"]["vocab"].items()
    }
    (plain / "tokenizer.json").write_text(json.dumps(tokenizer))
    shown = dry_run(config, f"pretrained_model_path={plain}")
    assert "the tokenizer lacks <|im_start|> and <|im_end|>" in shown.stderr


def test_merge_folds_an_adapter_into_its_base(model: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from runners.models.load import add_adapters

    base = AutoModelForCausalLM.from_pretrained(model)
    settings = TrainConfig(data_paths=["/"], pretrained_model_path=str(model), lora_rank=4)
    adapted = add_adapters(base, settings, model)
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapter = tmp_path / "adapter"
    adapted.save_pretrained(str(adapter))
    done = mft("merge", str(adapter), "--output", str(tmp_path / "merged"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == str(tmp_path / "merged")
    ids = torch.arange(4, 24)[None]
    plain = AutoModelForCausalLM.from_pretrained(model).eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        before = plain(ids).logits
        wanted = PeftModel.from_pretrained(plain, str(adapter)).eval()(ids).logits
        found = merged(ids).logits
    assert (found - wanted).abs().max() < 1e-5
    assert (before - wanted).abs().max() > 1e-3
    assert (tmp_path / "merged" / "tokenizer.json").is_file()


def test_merge_of_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    failed = mft("merge", str(tmp_path), "--output", str(tmp_path / "merged"))
    assert failed.returncode == 5, failed.stderr
    assert "there is no adapter here" in failed.stderr
    assert not (tmp_path / "merged").exists()


def test_convert_writes_the_native_format(shared: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    source, target = shared / "models" / "chatglm2-tiny", tmp_path / "native"
    done = mft("convert", str(source), "--output", str(target), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == str(target)
    assert read_model_config(target)["model_type"] == "glm"
    expected = load_file(source / "expected.safetensors")
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(target).eval()(expected["input_ids"]).logits
    assert (found - expected["logits"]).abs().max() < 1e-4


def test_convert_refuses_a_native_checkpoint_before_a_run_exists(
    model: Path, tmp_path: Path
) -> None:
    failed = mft("convert", str(model), "--output", str(tmp_path / "native"))
    assert failed.returncode == 2, failed.stderr
    assert "transformers reads as it is" in failed.stderr
    assert not (StateFolder.default().root / "runs").exists()
